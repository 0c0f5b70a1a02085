"""A recipe: everything one run needs, in one YAML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator

from cluster.errors import SettingsError
from cluster.models import is_there
from cluster.registry import one_of
from cluster.settings import Settings, override, read_yaml, validate
from jobs.targets import Targets
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings
from synth.curation_settings import CurationSettings
from synth.filters.settings import FilterSettings
from synth.judge import JudgeSettings
from synth.limits import Limits
from synth.method import MethodSettings
from synth.own_method import own_method
from synth.teacher import TeacherSettings
from training.settings import StudentSettings

if TYPE_CHECKING:
    AnyMethod = MethodSettings
    AnyTeacher = TeacherSettings
else:
    AnyMethod = one_of(MethodSettings, "synth.methods", "name")
    AnyTeacher = one_of(TeacherSettings, "synth.teachers", "backend")


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
    students: tuple[StudentSettings, ...] = ()
    """Classifiers trained on the dataset."""
    seeds_only: bool = True
    """Train the first student on the seeds alone too, as a baseline."""


def load_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe, merge `--set` values, validate it, and make its paths absolute."""
    data, base = override(read_yaml(path), assignments), path.parent.absolute()
    own = data.get("method")
    if isinstance(own, dict) and isinstance(own.get("file"), str):
        # It is read when the recipe is validated.
        data["method"] = own | {"file": str(base / own["file"])}
    recipe = validate(Recipe, data, str(path))
    if recipe.corpus is not None:
        corpus = recipe.corpus.model_copy(update={"path": _file(recipe.corpus.path, base)})
        recipe = recipe.model_copy(update={"corpus": corpus})
    teacher = recipe.teacher.model_copy(update={"model": _model(recipe.teacher.model)})
    students = tuple(s.model_copy(update={"base": _model(s.base)}) for s in recipe.students)
    recipe = recipe.model_copy(update={"task": _placed(recipe.task, base), "teacher": teacher})
    recipe = recipe.model_copy(update={"method": _with_paths(recipe.method, base), "students": students})
    if recipe.judge is not None and recipe.judge.teacher is not None:
        own = recipe.judge.teacher.model_copy(update={"model": _model(recipe.judge.teacher.model)})
        judge = recipe.judge.model_copy(update={"teacher": own})
        recipe = recipe.model_copy(update={"judge": judge})
    if recipe.index is not None and recipe.index.encoder is not None:
        index = recipe.index.model_copy(update={"encoder": _encoder(recipe.index.encoder)})
        recipe = recipe.model_copy(update={"index": index})
    if (semantic := recipe.curation.semantic) is not None:
        placed = semantic.model_copy(update={"encoder": _encoder(semantic.encoder)})
        recipe = recipe.model_copy(update={"curation": CurationSettings(semantic=placed)})
    names = [student.name for student in recipe.students]
    if len(set(names)) < len(names):
        raise SettingsError(f"{path}: students: two have the same name")
    _check_retrieval(recipe, path)
    return recipe


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
    named = ("file", "seeds", "test")
    files = {name: str(base / task[name]) for name in named if isinstance(task.get(name), str)}
    return task | files


def _encoder(encoder: EncoderSettings) -> EncoderSettings:
    return encoder.model_copy(update={"model": _model(encoder.model)})


def _model(name: str) -> str:
    """Return a model's folder or file as an absolute path, and any other name as it is."""
    return str(Path(name).absolute()) if is_there(Path(name)) else name
