"""A recipe: everything one run needs, in one YAML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from cluster.errors import SettingsError
from cluster.models import is_there
from cluster.registry import one_of
from cluster.settings import Settings, override, read_yaml, validate
from jobs.outside_settings import DatasetSettings, completed
from jobs.targets import Targets
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings
from synth.curation_settings import CurationSettings
from synth.filters.settings import FilterSettings
from synth.judge import JudgeSettings
from synth.limits import Limits
from synth.method import MethodSettings
from synth.metrics.settings import MetricsBase, metrics_settings
from synth.outside import OutsideSettings
from synth.own_method import own_method
from synth.teacher import TeacherSettings
from training.feedback_settings import FeedbackSettings
from training.incubation.settings import IncubationSettings
from training.knowledge_settings import CartographySettings, InformationSettings, OracleSettings
from training.settings import StudentSettings
from training.tuning.settings import TuningSettings

if TYPE_CHECKING:
    AnyMethod = MethodSettings
    AnyTeacher = TeacherSettings
    AnyMetrics = MetricsBase
else:
    AnyMethod = one_of(MethodSettings, "synth.methods", "name")
    AnyTeacher = one_of(TeacherSettings, "synth.teachers", "backend")
    AnyMetrics = metrics_settings()


def _own_or_ours(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Take a method that the user's own file defines, or one of ours."""
    if isinstance(data, dict) and data.get("file") is not None:
        return own_method(Path(data["file"]), data)
    return handler(data)


class Recipe(Settings):
    """One run, from corpus to report."""

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the run; its folder in the store. The same name resumes."""
    store: str = "runs"
    """Where runs and indexes are kept: a folder that all nodes see, or `s3://bucket/prefix`. Relative to the
    working directory, or to the home directory in a job of a cluster."""
    task: Path | dict[str, Any]
    """Task file; or the task itself; or `file` with what differs from it, such as seeds. Paths are relative
    to the recipe."""
    license: str = "unknown"
    """Licence of the dataset for its card, as the Hugging Face hub spells it."""
    corpus: CorpusSettings | None = None
    """Documents to retrieve from. Without it, `index.name` names an index that is complete in the store."""
    index: IndexSettings | None = None
    """How the corpus is embedded and indexed; methods that retrieve need it."""
    retriever: RetrieverSettings = RetrieverSettings()
    """How documents are fetched."""
    dataset: DatasetSettings | None = None
    """Rows that another tool made, to be measured: then method, teacher and targets need not be given."""
    method: Annotated[SerializeAsAny[AnyMethod], WrapValidator(_own_or_ours)]
    """How examples are made."""
    teacher: AnyTeacher
    """The LLM that writes."""
    targets: Targets
    """How much is wanted."""
    filters: FilterSettings = FilterSettings()
    """What a text must be to be accepted."""
    judge: JudgeSettings | None = None
    """A second look at every text that passes the filters; by default there is none."""
    curation: CurationSettings = CurationSettings()
    """What is looked at when the accepted rows become the dataset."""
    limits: Limits = Limits()
    """What it may cost at most; a run that reaches a limit ends early with a valid, smaller dataset."""
    tune: TuningSettings | None = None
    """Fine-tune the teacher first, on rows of yours or on Incubator's; the tuned one then writes."""
    incubation: IncubationSettings | None = None
    """Make the rows that the teacher is tuned on from labelled datasets, as Incubator does."""
    feedback: FeedbackSettings = FeedbackSettings()
    """How a student teaches what the next round is planned from; methods with rounds need it."""
    students: tuple[StudentSettings, ...] = ()
    """Classifiers trained on the dataset."""
    seeds_only: bool = True
    """Train the first student on the seeds alone too, as a baseline."""
    students_at_once: int | None = Field(default=None, ge=1)
    """Trainings under way at a time; by default as many as each get a GPU, or without GPUs a CPU."""
    cartography: CartographySettings | None = None
    """Map the dataset's rows by how a student learns them, and choose which of them are kept."""
    oracle: OracleSettings | None = None
    """Train a judge on gold rows and ask it how many of the dataset's rows have the label they carry."""
    information: InformationSettings | None = None
    """Measure how much the texts tell a student about their labels, overall and row by row."""
    metrics: AnyMetrics | None = AnyMetrics()
    """What is measured of the dataset: every metric unless it is null; null altogether for none."""

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, data: Any) -> Any:
        return completed(data)

    @property
    def asks(self) -> bool:
        """Whether it asks what a student knows of the rows."""
        return any(each is not None for each in (self.cartography, self.oracle, self.information))


def load_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe, merge `--set` values, validate it, and make its paths absolute."""
    return placed_recipe(override(read_yaml(path), assignments), path)


def placed_recipe(data: dict[str, Any], path: Path) -> Recipe:
    """Validate what a recipe at a path says, and make its paths absolute."""
    base = path.parent.absolute()
    own = data.get("method")
    if isinstance(own, dict) and isinstance(own.get("file"), str):
        # It is read when the recipe is validated.
        data["method"] = own | {"file": str(base / own["file"])}
    recipe = _located(validate(Recipe, data, str(path)), base)
    _check_students(recipe, path)
    _check_retrieval(recipe, path)
    if (recipe.dataset is None) == isinstance(recipe.method, OutsideSettings):
        raise SettingsError(f"{path}: dataset and method outside go together, and with no other method")
    return recipe


def _located(recipe: Recipe, base: Path) -> Recipe:
    """Return a recipe whose files and folders are named by absolute paths."""
    placed: dict[str, Any] = {
        "task": _placed(recipe.task, base),
        "teacher": recipe.teacher.model_copy(update={"model": _model(recipe.teacher.model)}),
        "method": _with_paths(recipe.method, base),
        "students": tuple(_student(student) for student in recipe.students),
    }
    if recipe.dataset is not None:
        placed["dataset"] = recipe.dataset.model_copy(update={"path": _file(recipe.dataset.path, base)})
    if recipe.corpus is not None:
        placed["corpus"] = recipe.corpus.model_copy(update={"path": _file(recipe.corpus.path, base)})
    if recipe.judge is not None and recipe.judge.teacher is not None:
        own = recipe.judge.teacher.model_copy(update={"model": _model(recipe.judge.teacher.model)})
        placed["judge"] = recipe.judge.model_copy(update={"teacher": own})
    if recipe.index is not None and recipe.index.encoder is not None:
        placed["index"] = recipe.index.model_copy(update={"encoder": _encoder(recipe.index.encoder)})
    if (semantic := recipe.curation.semantic) is not None:
        placed["curation"] = CurationSettings(
            semantic=semantic.model_copy(update={"encoder": _encoder(semantic.encoder)})
        )
    return recipe.model_copy(update=placed | _located_trainings(recipe, base))


def _located_trainings(recipe: Recipe, base: Path) -> dict[str, Any]:
    """Return, of the keys that train something beside the students, those with absolute paths."""
    placed: dict[str, Any] = {"metrics": _metrics(recipe.metrics)}
    for key in ("cartography", "oracle", "information"):
        if (settings := getattr(recipe, key)) is not None:
            placed[key] = settings.model_copy(update={"student": _student(settings.student)})
    feedback, mapped = recipe.feedback, recipe.feedback.cartography
    located = mapped.model_copy(update={"student": _student(mapped.student)})
    placed["feedback"] = feedback.model_copy(
        update={"student": _student(feedback.student), "cartography": located}
    )
    if (tune := recipe.tune) is not None:
        rows = None if tune.rows is None else _file(tune.rows, base)
        model = None if tune.base is None else _model(tune.base)
        placed["tune"] = tune.model_copy(update={"rows": rows, "base": model})
    if (incubation := recipe.incubation) is not None:
        placed["incubation"] = _incubation(incubation, base)
    return placed


def _incubation(settings: IncubationSettings, base: Path) -> IncubationSettings:
    datasets = tuple(_placed(dataset, base) for dataset in settings.datasets)
    diversify = settings.diversify
    if diversify is not None:
        diversify = diversify.model_copy(update={"encoder": _encoder(diversify.encoder)})
    writer = settings.writer
    if writer is not None and isinstance(name := writer.teacher.get("model"), str):
        writer = writer.model_copy(update={"teacher": writer.teacher | {"model": _model(name)}})
    return settings.model_copy(update={"datasets": datasets, "diversify": diversify, "writer": writer})


def _check_students(recipe: Recipe, path: Path) -> None:
    names = [student.name for student in recipe.students]
    if len(set(names)) < len(names):
        raise SettingsError(f"{path}: students: two have the same name")
    mapped = [student.name for student in recipe.students if student.cartography]
    if mapped and recipe.cartography is None:
        raise SettingsError(
            f"{path}: students: {mapped[0]}: cartography needs the recipe's own key cartography, which "
            "says what is kept; add it, for example cartography: {preset: paper}"
        )


def _check_retrieval(recipe: Recipe, path: Path) -> None:
    if recipe.corpus is not None and recipe.index is None:
        raise SettingsError(f"{path}: corpus: add index, which says how the corpus is indexed")
    if recipe.method.needs_corpus and recipe.index is None:
        raise SettingsError(f"{path}: method {recipe.method.name} retrieves; add corpus and index")
    dense = recipe.retriever.kind in ("dense", "hybrid")
    if dense and recipe.corpus is not None and recipe.index is not None and recipe.index.encoder is None:
        kind = recipe.retriever.kind
        raise SettingsError(f"{path}: index.encoder: retriever.kind {kind} needs one; add it")


def _file(name: str, base: Path) -> str:
    """Return a local path as an absolute one, from the recipe's folder; a URL as it is."""
    return name if "://" in name else str(base / name)


def _with_paths(method: MethodSettings, base: Path) -> MethodSettings:
    """Return a method's settings with their paths, which are texts, made absolute."""
    given = {name: str(path) for name in method.paths if (path := getattr(method, name)) is not None}
    return method.model_copy(update={name: _file(path, base) for name, path in given.items()})


def _placed(task: Path | dict[str, Any], base: Path) -> Path | dict[str, Any]:
    """Return the task with its paths made absolute; what is no path is refused when the task is read."""
    if isinstance(task, Path):
        return base / task
    named = ("file", "seeds", "train", "test")
    files = {name: str(base / task[name]) for name in named if isinstance(task.get(name), str)}
    return task | files


def _student(student: StudentSettings) -> StudentSettings:
    return student.model_copy(update={"base": _model(student.base)})


def _encoder(encoder: EncoderSettings) -> EncoderSettings:
    return encoder.model_copy(update={"model": _model(encoder.model)})


def _metrics(metrics: MetricsBase | None) -> MetricsBase | None:
    """Return metrics whose models are named by absolute paths."""
    if metrics is None:
        return None
    placed: dict[str, Any] = {}
    if metrics.encoder is not None:
        placed["encoder"] = _encoder(metrics.encoder)
    for name, metric in metrics.chosen().items():
        own: dict[str, Any] = {}
        if isinstance(encoder := getattr(metric, "encoder", None), EncoderSettings):
            own["encoder"] = _encoder(encoder)
        if isinstance(model := getattr(metric, "model", None), str):
            own["model"] = _model(model)
        placed[name] = metric.model_copy(update=own)
    return metrics.model_copy(update=placed)


def _model(name: str) -> str:
    """Return a model's folder or file as an absolute path, and any other name as it is."""
    return str(Path(name).absolute()) if is_there(Path(name)) else name
