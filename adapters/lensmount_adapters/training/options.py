"""The options of a training run and of a job, each written once.

Everything that states an option takes it from these tables: `TrainingConfig` its ranges and words, `POST /jobs` its
fields, `lensmount train` and `lensmount jobs submit` their flags. Where a second text is needed (the fields of
`TrainingConfig` and of the SDK's `JobOptions`, docs/training.md) tests/test_one_source.py compares it.
The client may not import this package: `make options` writes its copy.
"""

from __future__ import annotations

from lensmount_adapters.dtypes import ALIASES, BFLOAT16, FLOAT16, FLOAT32
from lensmount_adapters.training.option import Option

TRAINING, DATA, VOLUMES, SEARCH, MACHINE = "Training", "Data", "Volumes", "Search (--auto)", "Machine"
PUBLISHING, QUEUE = "Publishing", "Queue"

_SHORT_WORDS = tuple(ALIASES.items())
_SERVERS_OWN = "a job trains on the backbone that the server serves"
_WORKERS_OWN = "each worker has a setting of its own for its machine"
_MASKS = "only masks have it; masks are trained from Python or by a recipe, on a folder of images/ and masks/"
_TABLE = "it is a table of numbers, which a recipe or a Python program holds; `augment` names a preset"

# fmt: off
TRAINING_OPTIONS = (
    Option("data", "path", "", required=True,
           help="Folder with one folder of images for each class, or with a manifest.csv; or a zip of one.",
           not_in_jobs="a job names a dataset of the server"),
    Option("name", "str", "", required=True,
           help="The adapter's name, as requests will give it: malaria.",
           not_in_jobs="a job calls it `adapter`"),
    Option("out", "path", "", required=True,
           help="The adapter file to write: malaria.safetensors.",
           not_in_jobs="a job leaves its files with the server"),
    Option("backbone", "str", "", default="tf_efficientnet_lite0",
           help="The frozen network below: any timm name, such as resnet34, a ViT at another size (NAME@448), or "
                "clip.",
           not_in_jobs=_SERVERS_OWN),
    Option("weights", "str", "",
           help="The backbone's weights: a safetensors FILE, 'hub' or 'random:SEED'; clip: FOLDER or hub:OWNER/NAME.",
           not_in_jobs=_SERVERS_OWN),
    Option("resume", "bool", "", default=False,
           help="Go on from the last whole epoch of a broken-off run.",
           not_in_jobs="a worker always goes on from the checkpoint that an earlier attempt left"),
    Option("method", "str", TRAINING, default="lora", longest=64,
           help="What is trained: lora (low-rank deltas), lora-tucker, bias, norm, head (the last layer alone), or "
                "several joined by '+': lora+norm."),
    Option("rank", "int", TRAINING, default=8, minimum=1, job_maximum=256,
           help="Rank of the low-rank deltas: a higher one learns more and makes the file larger."),
    Option("alpha", "float", TRAINING, unset="twice rank", above=0, job_maximum=10_000,
           help="Strength of the deltas, alpha/rank."),
    Option("init_std", "float", TRAINING, unset="Kaiming uniform", above=0, job_maximum=10, said="init-std {}",
           help="Draw A from N(0, STD^2), such as 0.01."),
    Option("init_b_std", "float", TRAINING, default=0.0, minimum=0, job_maximum=10, said="init-b-std {}",
           help="Draw B from N(0, STD^2); 0 starts at the backbone itself."),
    Option("head", "str", TRAINING, default="linear", longest=64,
           help="linear, mlp:256 (hidden layers of these widths with BatchNorm, LeakyReLU and dropout; mlp:512,256), "
                "cosine, cosine:512, or text (cosine that starts from --prompts)."),
    Option("prompts", "prompts", TRAINING, metavar="FILE.toml",
           help="TOML file with templates and descriptions of the classes, for --head text."),
    Option("targets", "regex", TRAINING, unset="by backbone", longest=512,
           help="Regular expression for the layers to train, such as 'layer4'."),
    Option("epochs", "int", TRAINING, unset="12, more if images are few", minimum=1, job_maximum=1000, said="{} epochs",
           help="How often every training image is seen."),
    Option("patience", "int", TRAINING, unset="never", minimum=1, job_maximum=1000,
           help="Stop after this many epochs without a better validation."),
    Option("batch_size", "int", TRAINING, default=32, minimum=1, job_maximum=1024,
           help="Images in one step."),
    Option("learning_rate", "float", TRAINING, flag="--lr", default=4e-3, above=0, job_maximum=1,
           help="Highest learning rate."),
    Option("warmup", "float", TRAINING, default=0.1, minimum=0, below=1,
           help="Share of the steps in which the learning rate rises to its highest value."),
    Option("weight_decay", "float", TRAINING, default=0.01, minimum=0, job_maximum=1,
           help="AdamW's weight decay."),
    Option("label_smoothing", "float", TRAINING, default=0.1, minimum=0, below=1,
           help="Share of each label spread over all."),
    Option("class_weights", "str", TRAINING, default="balanced", choices=("balanced", "none"),
           help="balanced (a rare class counts as much as a common one) or none."),
    Option("mixup", "float", TRAINING, default=0.0, minimum=0, job_maximum=10,
           help="Blend pairs of images (Beta parameter); 0 for none."),
    Option("cutmix", "float", TRAINING, default=0.0, minimum=0, job_maximum=10,
           help="Paste parts of images into others (Beta parameter); 0 for none."),
    Option("average", "float", TRAINING, default=0.98, minimum=0, below=1,
           help="Decay of the moving average that is kept; 0: the last step."),
    Option("cache_trunk", "str", TRAINING, default="auto", choices=("auto", "on", "off"),
           help="Compute the frozen part once for a few varied views of each image and keep it on disk while "
                "training: on, off, or auto, where it saves time."),
    Option("views", "int", TRAINING, default=4, minimum=1, job_maximum=1000, said="{} views",
           help="How many views of each image --cache-trunk keeps."),
    Option("precision", "str", TRAINING, default="auto", choices=("auto", FLOAT32, BFLOAT16), aliases=_SHORT_WORDS,
           help="float32, bfloat16, or auto: whichever runs faster where it trains."),
    Option("seed", "int", TRAINING, default=0, minimum=0, job_maximum=2**53 - 1,  # every JSON reader's
           help="Same seed, same split, same result."),
    Option("shots", "int", DATA, unset="all", minimum=1, job_maximum=100_000, said="{} shots",
           help="Train on only this many images of each class."),
    Option("size", "int", DATA, unset="the backbone's", minimum=16, maximum=1024,
           help="Side of the network's input in pixels."),
    Option("resize", "str", DATA, default="squash", choices=("squash", "crop", "pad"),
           help="squash (the whole image), crop (its centre) or pad (the whole, with black borders)."),
    Option("augment", "str", DATA, default="photo", choices=("photo", "microscopy", "tissue", "none"),
           help="How training images vary: photo, microscopy (any orientation), tissue (also crops and stains), none."),
    Option("augmentation", "table", "",
           help="Fields of the preset named by `augment`, with other values.",
           not_in_jobs=_TABLE, not_in_train=_TABLE),
    Option("orientations", "int", DATA, default=1, choices=(1, 2, 4, 8), said="{} orientations",
           help="Average answers over 1, 2 (mirrored), 4 (turned) or 8 orientations, in serving as well."),
    Option("group_regex", "regex", DATA, unset="each image by itself", longest=512,
           help="Regular expression that finds the patient, slide or source in a file name (its first group); images "
                "of one are never both trained on and tested on."),
    Option("validation_fraction", "float", DATA, flag="--val-fraction", default=0.15, minimum=0, below=1,
           help="Share kept to choose the best epoch."),
    Option("test_fraction", "float", DATA, default=0.15, minimum=0, below=1,
           help="Share kept to measure the result."),
    Option("depth", "int", VOLUMES, unset="16", minimum=1, maximum=512,
           help="Slices of the network's input."),
    Option("depth_resize", "str", VOLUMES, default="resample", choices=("resample", "crop"),
           help="How a volume gets there: resample (linearly) or crop (the middle, or zeros around it)."),
    Option("window", "window", VOLUMES, unset="percentiles of each volume",
           help="Intensities from black to white: -160 240."),
    Option("auto", "bool", SEARCH, default=False,
           help="Choose method, rank and targets by short trials on the validation part."),
    Option("max_file_bytes", "int", SEARCH, unset="any", minimum=1, job_maximum=2**30,
           help="Largest adapter file that --auto tries."),
    Option("max_seconds", "float", SEARCH, unset="as long as it takes", above=0, job_maximum=7 * 86_400,
           help="Seconds for --auto's trials (the last one may take longer)."),
    Option("device", "str", MACHINE, default="auto",
           help="cpu, cuda, or auto.",
           not_in_jobs=_WORKERS_OWN),
    Option("threads", "int", MACHINE, unset="all cores", minimum=1,
           help="CPU threads.",
           not_in_jobs=_WORKERS_OWN),
    Option("file_dtype", "str", PUBLISHING, default=FLOAT16, choices=(FLOAT16, BFLOAT16, FLOAT32),
           aliases=_SHORT_WORDS,
           help="Number format of the file: float16, bfloat16 or float32."),
    Option("license", "str", PUBLISHING, default="", longest=200,
           help="Licence of the adapter, kept in the file."),
    Option("description", "str", PUBLISHING, default="", longest=4000,
           help="What the adapter is for, kept in the file."),
    Option("labels", "names", "",
           help="The masks' names.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
    Option("where", "str", "",
           help="Rows of index.csv: COLUMN=VALUE.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
    Option("loss", "str", "", choices=("dice-bce", "mse"),
           help="dice-bce (1 - soft Dice + cross-entropy) or mse.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
)

# What becomes of a job beside its training run.
JOB_OPTIONS = (
    Option("alias", "str", PUBLISHING, longest=64, unset="none",
           help="Move this alias to the new version, and compare with what it means now."),
    Option("margin", "float", PUBLISHING, default=0.01, minimum=0, maximum=1,
           help="Publish only if the balanced accuracy on the test part is at most so much below that of the adapter "
                "it replaces."),
    Option("force", "bool", PUBLISHING, default=False,
           help="Publish even if it is worse."),
    Option("priority", "int", QUEUE, default=0, minimum=-100, maximum=100,
           help="Higher goes first."),
    Option("max_attempts", "int", QUEUE, default=3, minimum=1, maximum=10,
           help="Workers it may be given to, one after the other."),
)
# fmt: on


def options_of_jobs() -> tuple[Option, ...]:
    """Everything that POST /jobs takes beside `dataset` and `adapter`."""
    return tuple(option for option in TRAINING_OPTIONS if not option.not_in_jobs) + JOB_OPTIONS


def options_of_train() -> tuple[Option, ...]:
    """Everything that `lensmount train` takes beside --report and --json."""
    return tuple(option for option in TRAINING_OPTIONS if not option.not_in_train)
