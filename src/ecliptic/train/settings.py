"""All settings of a training run; a recipe in `recipes/` is a `TrainSettings` in TOML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ecliptic.checks import check_count, check_range
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig

RANDOM = "random"  # the `start` that loads nothing
DRAWING_TEMPLATES = (
    "a drawing of {}",
    "a picture of {}",
    "an emoji of {}",
    "an icon of {}",
    "a cartoon of {}",
    "a sketch of {}",
    "clip art of {}",
    "a simple drawing of {}",
    "a colourful picture of {}",
    "a symbol for {}",
    *("{} emoji", "{} icon"),
    "this is {}",
    "a photo of {}",
)


@dataclass(frozen=True)
class FolderConfig:
    """Images in a folder, each with its captions in a text file of the same stem, one a line."""

    path: Path
    weight: float = 1.0  # share of a batch, relative to the other sources
    captions: str = ".txt"  # suffix of the caption files, also in capital letters
    templates: tuple[str, ...] = ()  # such as "a photo of {}", one is drawn for each caption


@dataclass(frozen=True)
class TableConfig:
    """Rows of a CSV, TSV, JSONL or Parquet file that name an image and its captions."""

    path: Path
    weight: float = 1.0
    image: str = "image"  # column with a path, relative to the table
    captions: tuple[str, ...] = ("caption",)  # columns; one is drawn each time
    separator: str = ""  # between several captions in one cell; empty: a cell is one caption
    negatives: tuple[str, ...] = ()  # columns with captions that do not fit the image
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class TarsConfig:
    """Tar files in the layout of webdataset: members of one stem are one example."""

    path: str  # a file, a folder of tars, or a pattern: shards/{00000..00099}.tar, shards/*.tar
    weight: float = 1.0
    image: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")  # extensions, the first found is taken
    captions: tuple[str, ...] = ("txt",)  # extensions; "json:caption" is a field of a JSON object
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetConfig:
    """A folder that Hugging Face `datasets` saved with `save_to_disk`; needs that package."""

    path: Path
    weight: float = 1.0
    image: str = "image"  # column
    captions: tuple[str, ...] = ("caption",)  # columns of texts or lists of texts
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawingsConfig:
    """Drawings with names and keywords: tars and a table, as the data of `mini`."""

    path: Path  # a folder; its table is NAME/NAME.csv
    weight: float = 1.0
    designs: tuple[str, ...] = ()  # names of tars beside the table; empty: all that it names
    split: Literal["train", "val", "all"] = "train"  # by the column concept_split, if there is one
    example: Literal["concept", "drawing"] = "concept"  # a name, drawn anew each time; or a picture
    ink: Literal["none", "black", "white"] = "none"  # grey drawings are ink on clear paper
    leave_out: tuple[str, ...] = ()  # beginnings of names that say nothing
    held_out: Path | None = None  # a table; what is called like its concepts "val" is left out
    captions: Literal["varied", "names"] = "varied"  # names in templates, with keywords; or alone
    templates: tuple[str, ...] = DRAWING_TEMPLATES
    wordnet: Path | None = None  # table of synsets: varied captions have its words for the names


SourceConfig = FolderConfig | TableConfig | TarsConfig | DatasetConfig | DrawingsConfig


@dataclass(frozen=True)
class WordNetConfig:
    """Words of WordNet, each with its definition, a hypernym, a synonym or a part."""

    path: Path  # table of synsets with tabs, may be packed with xz
    weight: float = 1.0  # share of the pairs, relative to the other sources
    kinds: tuple[str, ...] = ()  # lexicographer files such as "noun.animal"; empty: all


@dataclass(frozen=True)
class TextPairsSettings:
    """Pairs of texts of one meaning, for a loss of the text tower beside that of the images."""

    sources: tuple[WordNetConfig, ...] = ()
    batch: int = 128  # pairs in one step, over all processes
    weight: float = 0.5  # of their InfoNCE, beside the loss of the images

    def __post_init__(self) -> None:
        check_count("data.texts.batch", self.batch)
        check_range("data.texts.weight", self.weight, above=True)
        for number, source in enumerate(self.sources):
            check_range(f"data.texts.sources[{number}].weight", source.weight, above=True)


@dataclass(frozen=True)
class DataSettings:
    """What is trained on, and how a batch is made of it."""

    root: Path = Path()  # paths of sources are relative to it; `--data` sets it
    sources: tuple[SourceConfig, ...] = ()
    batch: int = 256  # pairs in one step, over all processes
    augment: Literal["none", "crop", "drawings"] = "none"  # see `train.data.augmentations`
    workers: int = 0  # processes that decode and augment; 0: the training process does it
    ahead: int = 2  # batches that each worker prepares ahead
    texts: TextPairsSettings = field(default_factory=TextPairsSettings)
    held_out: float = 0.0  # share of every source that is kept for evaluation
    most_rejects: float = 0.01  # the run ends when a larger share of examples cannot be read

    def __post_init__(self) -> None:
        check_count("data.batch", self.batch)
        check_count("data.workers", self.workers, least=0)
        check_count("data.ahead", self.ahead)
        check_range("data.held_out", self.held_out, most=1, below=True)
        check_range("data.most_rejects", self.most_rejects, most=1)
        for number, source in enumerate(self.sources):
            check_range(f"data.sources[{number}].weight", source.weight, above=True)

    @property
    def has_negatives(self) -> bool:
        """Whether a source has captions that do not fit their images."""
        return any(getattr(source, "negatives", ()) for source in self.sources)


@dataclass(frozen=True)
class TowerSettings:
    """What is trained of one tower."""

    freeze_layers: int = 0  # the embeddings and the first k - 1 blocks: layers 0 to k - 1
    rate_decay: float = 1.0  # factor on the rate of each layer below the last one
    rate: float | None = None  # instead of optim.rate
    checkpointing: bool = False  # recompute the blocks in the backward pass: less memory, slower

    def __post_init__(self) -> None:
        check_range("rate_decay of a tower", self.rate_decay, most=1, above=True)
        if self.rate is not None:
            check_range("rate of a tower", self.rate, above=True)


@dataclass(frozen=True)
class InfoNCEConfig:
    """Symmetric cross entropy over the batch (CLIP)."""

    block: int = 512  # rows of the similarity matrix that are held at once
    mask_duplicates: bool = True  # equal captions are no negatives of each other
    concepts: float = 0.0  # weight of a loss that tells all concepts apart; see `train.concepts`

    def __post_init__(self) -> None:
        check_range("loss.concepts", self.concepts)


@dataclass(frozen=True)
class SigLIPConfig:
    """Sigmoid of every pair on its own, with a learned bias (SigLIP)."""

    block: int = 512
    bias: float = -10.0  # at the start
    scale: float = 2.302585092994046  # logit_scale at the start, ln 10; random weights only
    mask_duplicates: bool = True


@dataclass(frozen=True)
class DistillationConfig:
    """InfoNCE, and the Kullback-Leibler divergence from a teacher's similarities."""

    teacher: str = ""  # any source that `load` takes
    weight: float = 1.0  # of the divergence; 1 - weight is that of InfoNCE
    block: int = 512
    mask_duplicates: bool = True


LossConfig = InfoNCEConfig | SigLIPConfig | DistillationConfig


@dataclass(frozen=True)
class OptimSettings:
    """AdamW and the schedule of its rate; the defaults follow open_clip."""

    rate: float = 5e-4  # at the end of the warm-up
    schedule: Literal["constant", "linear", "cosine", "inverse-sqrt"] = "cosine"
    warmup: int = 200  # steps
    cooldown: int = 0  # last steps, linear to `last_rate`; for constant and inverse-sqrt
    last_rate: float = 0.0  # at the end
    restarts: tuple[int, ...] = ()  # steps at which the cosine begins again, at `restart_rate`
    restart_rate: float = 0.0
    decay: float = 0.2  # of weights with two or more axes, the temperature left out
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip: float = 1.0  # largest norm of all gradients together; 0: no limit
    most_skipped: int = 10  # steps in a row with gradients that are not finite, before the run ends

    def __post_init__(self) -> None:
        for name in ("warmup", "cooldown", "most_skipped"):
            check_count(f"optim.{name}", getattr(self, name), least=0)
        check_range("optim.rate", self.rate, above=True)
        for name in ("decay", "clip"):
            check_range(f"optim.{name}", getattr(self, name))
        for name in ("beta1", "beta2"):
            check_range(f"optim.{name}", getattr(self, name), most=1, below=True)
        check_range("optim.eps", self.eps, above=True)
        cosine, cools = self.schedule == "cosine", self.schedule in ("constant", "inverse-sqrt")
        if (self.restarts or self.restart_rate) and not cosine:
            raise ConfigError(
                f'optim.restarts and restart_rate have no effect on schedule = "{self.schedule}"; '
                'leave them out, or take "cosine".'
            )
        if self.cooldown and not cools:
            raise ConfigError(
                f'optim.cooldown has no effect on schedule = "{self.schedule}", which falls all '
                'the time; leave it out, or take "constant" or "inverse-sqrt".'
            )
        if self.last_rate and cools and not self.cooldown:
            raise ConfigError(
                f'optim.last_rate has no effect on schedule = "{self.schedule}" without a '
                "cooldown; set cooldown to the steps that it takes to get there."
            )
        for name in ("last_rate", "restart_rate"):
            check_range(f"optim.{name}", getattr(self, name), most=self.rate)


@dataclass(frozen=True)
class EmaSettings:
    """A moving average of the weights, which is evaluated and written instead of them."""

    decay: float = 0.0  # per step, with a warm-up min(decay, (1 + t) / (10 + t)); 0: none

    def __post_init__(self) -> None:
        check_range("ema.decay", self.decay, most=1, below=True)


@dataclass(frozen=True)
class CheckpointSettings:
    """When the state of a run is written, and what is kept."""

    every: int = 500  # steps
    minutes: float = 15.0  # also after so much time; 0: by steps alone
    keep: int = 2  # the last states
    best: str = ""  # a value of the evaluation whose best state is kept: "val.image_to_text.at_1"

    def __post_init__(self) -> None:
        check_count("checkpoints.every", self.every, least=0)
        check_count("checkpoints.keep", self.keep)
        check_range("checkpoints.minutes", self.minutes)


@dataclass(frozen=True)
class HeldOutSettings:
    """One held-out set of the evaluation."""

    name: str
    source: SourceConfig
    task: Literal["retrieval", "names"] = "retrieval"  # names: zero-shot, of the first captions
    templates: tuple[str, ...] = ()  # of names, such as "a photo of {}"; their mean is compared


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured during the run."""

    every: int = 500  # steps
    most: int = 5000  # examples of each set
    sets: tuple[HeldOutSettings, ...] = ()  # beside the share `data.held_out`, named "held_out"
    calibrate: tuple[str, ...] = ()  # sets of the task "names" that fit the calibration at the end

    def __post_init__(self) -> None:
        check_count("evaluate.every", self.every)
        check_count("evaluate.most", self.most)


@dataclass(frozen=True)
class ProcessSettings:
    """Training on several processes, started with torchrun."""

    kind: Literal["ddp", "fsdp"] = "ddp"  # whole copies of the weights, or each rank a share
    timeout: float = 120.0  # seconds without an answer before a rank counts as lost

    def __post_init__(self) -> None:
        check_range("processes.timeout", self.timeout, above=True)


@dataclass(frozen=True)
class TrainSettings:
    """The settings of one run.

    With `start = "random"`, the sizes are those of `model` (ViT-B/32 by default). With another
    start they are those of that checkpoint, and `model`, `image_spec`, `tokenizer_spec` must not
    be given.
    """

    name: str = "clip"
    start: str = RANDOM  # or any source that `load` takes: a name, path or hub id
    trains: Literal["all", "image", "text"] = "all"  # the other tower is frozen
    steps: int = 4000
    seed: int = 0
    device: str = "auto"  # CUDA if there is one, else CPU
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the matmuls; auto times one step
    micro: int = 0  # pairs held at once, the gradient stays that of the batch; 0: all
    store: Literal["fp32", "fp16"] = "fp32"  # of the written weights; fp16 halves the file
    log_every: int = 50  # steps
    tensorboard: bool = False  # write the numbers for TensorBoard too; needs that package
    model: ClipConfig | None = None
    image_spec: ImageSpec | None = None
    tokenizer_spec: TokenizerSpec | None = None
    data: DataSettings = field(default_factory=DataSettings)
    image: TowerSettings = field(default_factory=TowerSettings)
    text: TowerSettings = field(default_factory=TowerSettings)
    loss: LossConfig = field(default_factory=InfoNCEConfig)
    optim: OptimSettings = field(default_factory=OptimSettings)
    ema: EmaSettings = field(default_factory=EmaSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    processes: ProcessSettings = field(default_factory=ProcessSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every"):
            check_count(name, getattr(self, name))
        for name in ("micro", "seed"):
            check_count(name, getattr(self, name), least=0)
        check_range("seed", self.seed, most=2**63 - 1)
        if isinstance(self.loss, DistillationConfig):
            _check_distillation(self.loss, self.data)
        if self.start == RANDOM:
            _check_sizes(self.sizes, self.pixels, self.tokens)
        elif any((self.model, self.image_spec, self.tokenizer_spec)):
            raise ConfigError(
                f"start = {self.start!r} brings its own sizes; leave model, image_spec and "
                "tokenizer_spec out."
            )

    @property
    def sizes(self) -> ClipConfig:
        """The sizes of random weights."""
        return self.model or ClipConfig()

    @property
    def pixels(self) -> ImageSpec:
        """The image preparation of random weights."""
        return self.image_spec or ImageSpec()

    @property
    def tokens(self) -> TokenizerSpec:
        """The tokenizer of random weights."""
        return self.tokenizer_spec or TokenizerSpec()


def _check_distillation(loss: DistillationConfig, data: DataSettings) -> None:
    """Raise ConfigError unless there is a teacher, and nothing that it could not judge."""
    if not loss.teacher:
        raise ConfigError(
            "loss.teacher is empty, but a distillation needs a trained model; name one that "
            '`ecliptic.load` takes, such as "ViT-B-32/openai".'
        )
    if data.has_negatives:
        raise ConfigError(
            "a distillation takes no negatives, of which the softmaxes of its teacher know "
            "nothing; leave `negatives` out of data.sources, or take another loss."
        )


def _check_sizes(model: ClipConfig, pixels: ImageSpec, spec: TokenizerSpec) -> None:
    """Raise ConfigError unless the towers, the image preparation and the tokenizer fit."""
    image, text = model.image, model.text
    if image is None or text is None:
        raise ConfigError("contrastive training needs an image tower and a text tower.")
    if image.image_size != pixels.size:
        raise ConfigError(
            f"model.image.image_size {image.image_size} and image_spec.size {pixels.size} differ; "
            "give both the same."
        )
    if (text.vocabulary, text.context) != (spec.vocabulary, spec.context):
        raise ConfigError(
            f"the tokenizer has {spec.vocabulary} ids and {spec.context} positions, the text "
            f"tower {text.vocabulary} and {text.context}; give both the same."
        )
    if text.end_of_text != spec.end_of_text:
        raise ConfigError(f"model.text.end_of_text must be {spec.end_of_text}.")
