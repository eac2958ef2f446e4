"""The pipeline on this machine, by kfp's own local runner."""
