"""What speaks with a Kubeflow Pipelines backend: submitting, following, listing and scheduling runs."""
