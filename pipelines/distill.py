"""The main pipeline: labelled rows in, a registered small model out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent

from potstill.components.adapt.component import adapt
from potstill.components.champion.component import champion
from potstill.components.choose.component import choose
from potstill.components.close.component import close
from potstill.components.compress.component import compress
from potstill.components.control.component import control
from potstill.components.distill.component import distill
from potstill.components.divide.component import divide
from potstill.components.doctor.component import doctor
from potstill.components.evaluate.component import evaluate
from potstill.components.extract.component import extract
from potstill.components.foresee.component import foresee
from potstill.components.ingest.component import ingest
from potstill.components.join.component import join
from potstill.components.register.component import register
from potstill.components.teach.component import teach
from potstill.pipelines.pods import Cluster, config, fit
from potstill.recipe import Cascade, Plan, Recipe, require_store
from potstill.sections import Section

# How many layers a student has whose form says it.
ANY = 1


def build(recipe: Recipe, cluster: Cluster | None = None) -> BaseComponent:
    """The DAG, with the recipe's values as the defaults of its parameters; for a cluster with pods as it has them.

    What a person would change from a form has a typed field of its own; the rest of each section is one JSON field.
    Digests are passed beside artifacts, so that a cache on a cluster, which knows artifacts by name, sees changes.

    Raises:
        UserError: the extraction's shards would have no store on that cluster.
    """
    shards = recipe.signals.shards
    if cluster:
        require_store(shards, cluster.store)
    data, teacher, form, settings = recipe.data, recipe.teacher, recipe.student, recipe.distill
    budget, registration = recipe.budget, recipe.register_

    @dsl.pipeline(
        name=recipe.name,
        description=f"Potstill: teacher to registered int8 student, {recipe.name}",
        pipeline_config=config(cluster) if cluster else None,
        pipeline_root=cluster.pipeline_root or None if cluster else None,
    )
    def pipeline(
        data_source: str = data.source or "",
        data_train: str = data.train or "",
        data_test: str = data.test or "",
        encoder: str = teacher.encoder,
        teacher_epochs: int = teacher.epochs,
        teacher_learning_rate: float = teacher.learning_rate,
        cross_fit: int = recipe.signals.cross_fit,
        layers: int = form.layers,
        temperature: float = settings.temperature,
        alpha: float = settings.alpha,
        epochs: int = settings.epochs,
        learning_rate: float = settings.learning_rate,
        retention: float = budget.retention,
        latency_p95_ms: float = budget.latency_p95_ms,
        size_mb: float = budget.size_mb,
        model: str = registration.model,
        promote: str = registration.promote,
        data_settings: dict = _rest(data, "source", "train", "test"),  # noqa: B008
        teacher_settings: dict = _rest(teacher, "encoder", "epochs", "learning_rate"),  # noqa: B008
        signals_settings: dict = _rest(recipe.signals, "cross_fit", "shards"),  # noqa: B008
        store: str = cluster.store if cluster else "",
        student_settings: dict = _rest(form, "layers"),  # noqa: B008
        distill_settings: dict = _rest(settings, "temperature", "alpha", "epochs", "learning_rate"),  # noqa: B008
        compress_settings: dict = _rest(recipe.compress),  # noqa: B008
        evaluate_settings: dict = _rest(recipe.evaluate),  # noqa: B008
        budget_settings: dict = _rest(budget, "retention", "latency_p95_ms", "size_mb"),  # noqa: B008
        register_settings: dict = _rest(registration, "model", "promote"),  # noqa: B008
        code_version: str = "image",
    ) -> None:
        """Distil a teacher into a registered int8 student.

        Args:
            data_source: All rows in one place: a file, a folder or a glob. Empty when train and test are given.
            data_train: Training rows. Empty when a source is given.
            data_test: Test rows. Empty when a source is given.
            encoder: The teacher's encoder: a hub name, a folder, or package:NAME/path.
            teacher_epochs: The teacher's passes over the training rows, at most.
            teacher_learning_rate: Peak of the teacher's schedule.
            cross_fit: Teachers more, each of which scores only training rows that it never saw; 0 is none.
            layers: How many of the teacher's layers the student keeps, evenly spread; a plan finds it by itself.
            temperature: Softens teacher and student; higher shows more of the teacher's doubts.
            alpha: Weight of the teacher's view, from 0 (labels alone) to 1 (teacher alone).
            epochs: The student's and the control's passes over the training rows, at most.
            learning_rate: Peak of the student's and the control's schedule.
            retention: Macro-F1 of the edge model over the teacher's, at least.
            latency_p95_ms: 95th percentile of the edge model at batch 1 on one thread, at most.
            size_mb: Model file and tokenizer in 10^6 bytes, at most.
            model: Name in the registry.
            promote: Who makes an accepted version champion: if-better the run, manual a person in MLflow, or never.
            data_settings: The other settings of the data section, as JSON.
            teacher_settings: The other settings of the teacher section, as JSON.
            signals_settings: The other settings of the signals section, as JSON.
            store: Folder or s3:// that outlives runs, for signals and for trainings that were killed. Empty is none.
            student_settings: The other settings of the student section, as JSON.
            distill_settings: The other settings of the distill section, as JSON.
            compress_settings: The compress section, as JSON.
            evaluate_settings: The evaluate section, as JSON.
            budget_settings: The other settings of the budget section, as JSON.
            register_settings: The other settings of the register section, as JSON.
            code_version: Version and digest of the code; image means what the image carries.
        """
        known: dict[str, Any] = {"recipe_name": recipe.name, "code_version": code_version}
        # Two runs may end alike, and each has its own tracking run to close.
        closed = close(recipe_name=recipe.name).set_caching_options(False).set_display_name("Close the run")
        with dsl.ExitHandler(closed):
            ready = doctor(source=data_source, train=data_train, test=data_test, store=store, shards=shards, **known)
            ready.set_caching_options(False).set_display_name("Check that everything is there")
            rows = ingest(
                source=data_source,
                train=data_train,
                test=data_test,
                settings=data_settings,
                tasks=_plain(recipe.tasks),
                **known,
            )
            # The rows may have changed without a change of any argument.
            rows.set_caching_options(False).set_display_name("Read and check the rows").after(ready)
            dataset: dict[str, Any] = {
                "dataset": rows.outputs["dataset"],
                "dataset_digest": rows.outputs["Output"],
                **known,
            }
            start, extra = {}, []
            if recipe.adapt:
                shaped = adapt(
                    **dataset,
                    encoder=encoder,
                    teacher=_only(teacher, "max_tokens", "vocabulary"),
                    settings=_rest(recipe.adapt),
                    store=store,
                ).set_display_name("Adapt the encoder to the shop's texts")
                start = {"adapted": shaped.outputs["adapted"], "adapted_digest": shaped.outputs["Output"]}
                extra = [shaped]
            large = teach(
                **dataset,
                **start,
                encoder=encoder,
                epochs=teacher_epochs,
                learning_rate=teacher_learning_rate,
                settings=teacher_settings,
                cross_fit=cross_fit,
                store=store,
            ).set_display_name("Fine-tune the teacher")
            taught = {"teacher": large.outputs["teacher"], "teacher_digest": large.outputs["Output"]}
            *sharing, table = _table(shards, {**dataset, **taught, "settings": signals_settings}, store)
            extra += sharing
            signals = {"signals": table.outputs["signals"], "signals_digest": table.outputs["Output"]}
            training = {
                "layers": layers,
                "epochs": epochs,
                "learning_rate": learning_rate,
                "form": student_settings,
                "settings": distill_settings,
                "store": store,
            }
            lesson = {**dataset, **taught, **signals, **training, "temperature": temperature, "alpha": alpha}
            packing = {**dataset, "teacher_digest": large.outputs["Output"], "settings": compress_settings}
            if recipe.plan:
                limits = {"retention": retention, "latency_p95_ms": latency_p95_ms, "size_mb": size_mb}
                # The forms say how many layers; of measuring only the rows that are timed matter to a choice.
                lesson, training = ({**one, "layers": ANY} for one in (lesson, training))
                made = _side_by_side(recipe.plan, lesson, packing, limits, _only(recipe.evaluate, "latency_rows"))
            else:
                made = _one(recipe.cascade, lesson, packing)
            alone = control(
                **dataset,
                **start,
                **training | made.form,
                encoder=encoder,
                teacher=_only(teacher, "pooling", "max_tokens", "vocabulary"),
            ).set_display_name("Train the control, without a teacher")
            rival = champion(model=model, edge_digest=made.edge["edge_digest"], **known)
            # A promotion or a rollback moves the champion without a change of any argument.
            rival.set_caching_options(False).set_display_name("Find the champion to beat")
            judged = evaluate(
                **dataset,
                **taught,
                **signals,
                **made.student,
                **made.edge,
                control=alone.outputs["student"],
                control_digest=alone.outputs["Output"],
                model=model,
                champion=rival.output,
                retention=retention,
                latency_p95_ms=latency_p95_ms,
                size_mb=size_mb,
                budget=budget_settings,
                settings=evaluate_settings,
            ).set_display_name("Evaluate and judge")
            registered = register(
                edge=made.edge["edge"],
                edge_digest=made.edge["edge_digest"],
                evaluation=judged.outputs["evaluation"],
                evaluation_digest=judged.outputs["Output"],
                model=model,
                promote=promote,
                champion=rival.output,
                settings=register_settings,
                **known,
            )
            registered.set_caching_options(False).set_display_name("Register")
        if cluster:
            fit(closed, cluster, retried=False)
            for task in (*extra, ready, rows, large, table, *made.tasks, alone, rival, judged, registered):
                fit(task, cluster)

    return pipeline


def _table(shards: int, asked: dict[str, Any], store: Any) -> list[PipelineTask]:
    """The tasks that extract what the teacher says, alone or side by side; the last one gives the table."""
    if shards == 1:
        return [extract(**asked, store=store).set_display_name("Extract what the teacher says")]
    shared = {name: value for name, value in asked.items() if name != "teacher"}
    divided = divide(**shared, shards=shards).set_display_name("Divide the extraction into shards")
    with dsl.ParallelFor(divided.outputs["Output"], name="shards") as one:
        own = {"variant": one.variant, "dataset_digest": one.dataset_digest, "teacher_digest": one.teacher_digest}
        shard = extract(**asked | own, store=store).set_display_name("Extract a shard of what the teacher says")
    table = join(**shared, store=store, shard_digests=dsl.Collected(shard.outputs["Output"]))
    return [divided, shard, table.set_display_name("Join the shards to one table")]


@dataclass(frozen=True)
class Made:
    """What came of distilling and compressing: outputs by the names under which later steps take them.

    Attributes:
        student: the student and its digest.
        edge: its edge model and the digest.
        tasks: that made them.
        form: of the student, where it was found.
    """

    student: Mapping[str, Any]
    edge: Mapping[str, Any]
    tasks: Sequence[PipelineTask]
    form: dict[str, Any] = field(default_factory=dict)


def _one(cascade: Cascade | None, lesson: dict[str, Any], packing: dict[str, Any]) -> Made:
    """A student of the recipe's form, perhaps behind a smaller one."""
    small, before = distill(**lesson).set_display_name("Distil the student"), {}
    tasks = [small]
    if cascade:
        own = {"layers": cascade.first.layers, "form": _rest(cascade.first, "layers"), "variant": "first"}
        own |= {knob: value for knob, value in _rest(cascade).items() if knob in ("epochs", "learning_rate")}
        first = distill(**lesson | own).set_display_name("Distil the first of the cascade")
        before = {"first": first.outputs["student"], "first_digest": first.outputs["Output"], "cascade": _rest(cascade)}
        tasks.append(first)
    file = compress(**packing, **_student(small), **before).set_display_name("Compress to ONNX int8")
    return Made(_student(small), {"edge": file.outputs["edge"], "edge_digest": file.outputs["Output"]}, [*tasks, file])


def _side_by_side(
    plan: Plan, lesson: dict[str, Any], packing: dict[str, Any], limits: dict[str, Any], measuring: dict[str, Any]
) -> Made:
    """Students of several forms, of which the cheapest that keeps the budget is taken."""
    rows = {name: lesson[name] for name in ("dataset", "dataset_digest", "recipe_name", "code_version")}
    signals = {name: lesson[name] for name in ("signals", "signals_digest")}
    seen = foresee(
        **rows,
        teacher=lesson["teacher"],
        teacher_digest=lesson["teacher_digest"],
        signals_digest=lesson["signals_digest"],
        form=lesson["form"],
        distill=lesson["settings"],
        compress=packing["settings"],
        latency_p95_ms=limits["latency_p95_ms"],
        size_mb=limits["size_mb"],
        settings=_only(plan, "candidates"),
    ).set_display_name("Foresee what each form costs")
    with dsl.ParallelFor(seen.outputs["Output"], name="forms", parallelism=plan.side_by_side) as one:
        own = {"variant": one.variant, "dataset_digest": one.dataset_digest, "teacher_digest": one.teacher_digest}
        small = distill(**lesson | own | {"form": one.form, "signals_digest": one.signals_digest})
        file = compress(**packing | own, **_student(small))
    best = choose(
        **rows,
        **signals,
        **limits,
        students=dsl.Collected(small.outputs["student"]),
        edges=dsl.Collected(file.outputs["edge"]),
        edge_digests=dsl.Collected(file.outputs["Output"]),
        foreseen=seen.outputs["foreseen"],
        forms=seen.outputs["Output"],
        settings=measuring,
    ).set_display_name("Choose the cheapest that keeps the budget")
    small.set_display_name("Distil a student")
    file.set_display_name("Compress to ONNX int8")
    student, edge = ({name: best.outputs[name] for name in (kind, f"{kind}_digest")} for kind in ("student", "edge"))
    edge["plan_digest"] = best.outputs["plan_digest"]
    return Made(student, edge, [seen, small, file, best], {"form": best.outputs["form"]})


def _student(task: PipelineTask) -> dict[str, Any]:
    """What distill made, as the steps after it take it."""
    return {"student": task.outputs["student"], "student_digest": task.outputs["Output"]}


def _plain(sections: dict[str, Any]) -> dict[str, Any]:
    return {name: section.model_dump(mode="json", exclude_none=True) for name, section in sections.items()}


def _rest(section: Section, *fields: str) -> dict[str, Any]:
    """A section without the settings that have a field of their own."""
    return section.model_dump(mode="json", exclude=set(fields), exclude_none=True)


def _only(section: Section, *fields: str) -> dict[str, Any]:
    return section.model_dump(mode="json", include=set(fields))
