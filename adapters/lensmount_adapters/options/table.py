"""The options of a training run and of a job, each written once.

Everything that states an option reads these tables: `TrainingConfig` takes its ranges and choices from them,
`POST /jobs` its fields, `lensmount train` and `lensmount jobs submit` their flags. Some texts must be written a second
time (the fields of `TrainingConfig` and of the SDK's `JobOptions`, docs/training.md): tests/test_one_source.py compares
them with the tables. The client may not import this package, so `make options` writes a copy for it.
"""

from __future__ import annotations

from lensmount_adapters.dtypes import ALIASES, BFLOAT16, FLOAT16, FLOAT32
from lensmount_adapters.options.option import Option

TRAINING, DATA, VOLUMES, SEARCH, MACHINE = "Training", "Data", "Volumes", "Search (--auto)", "Machine"
TRUST = "Trust"
PUBLISHING, QUEUE = "Publishing", "Queue"

_SHORT_WORDS = tuple(ALIASES.items())
_SET_BY_SERVER = "a job trains on the backbone that the server serves"
_SET_BY_WORKER = "each worker has its own setting"
_MASKS = "for masks only; train masks from Python or with a recipe, on a folder with images/ and masks/"
_TABLE = "it is a table of numbers: set it from Python or in a recipe, or choose a preset with `augment`"

# fmt: off
TRAINING_OPTIONS = (
    Option("data", "path", "", required=True,
           help="The labelled images: a folder with one subfolder per class, a folder with a labels.csv, or a zip of "
                "either. docs/data.md has all layouts.",
           not_in_jobs="a job names a dataset on the server"),
    Option("name", "str", "", required=True,
           help="The adapter's name, as used in requests, e.g. malaria.",
           not_in_jobs="a job calls it `adapter`"),
    Option("out", "path", "", required=True,
           help="The adapter file to write, e.g. malaria.safetensors.",
           not_in_jobs="a job's files stay on the server"),
    Option("backbone", "str", "", default="tf_efficientnet_lite0",
           help="The frozen network that the adapter is trained on: any timm name such as resnet34, a ViT at another "
                "input size (NAME@448), or clip.",
           not_in_jobs=_SET_BY_SERVER),
    Option("weights", "str", "",
           help="Weights of the backbone: a safetensors FILE, 'hub' or 'random:SEED'. For clip: a FOLDER or "
                "hub:OWNER/NAME.",
           not_in_jobs=_SET_BY_SERVER),
    Option("resume", "bool", "", default=False,
           help="Resume an interrupted run after its last complete epoch.",
           not_in_jobs="a worker always resumes from the checkpoint of an earlier attempt"),
    Option("method", "str", TRAINING, default="lora", longest=64,
           help="What to train: lora (low-rank deltas), lora-tucker, dora (lora and a factor per output), bias, norm, "
                "or head (the last layer only). Join several with '+': lora+norm."),
    Option("rank", "int", TRAINING, default=8, minimum=1, job_maximum=256,
           help="Rank of the low-rank deltas. A higher rank can learn more but makes the file larger."),
    Option("alpha", "float", TRAINING, unset="twice rank", above=0, job_maximum=10_000,
           help="Strength of the low-rank deltas: they are scaled by alpha/rank."),
    Option("init_std", "float", TRAINING, unset="Kaiming uniform", above=0, job_maximum=10, wording="init-std {}",
           help="Initialise the factors A from N(0, STD^2), e.g. 0.01."),
    Option("init_b_std", "float", TRAINING, default=0.0, minimum=0, job_maximum=10, wording="init-b-std {}",
           help="Initialise the factors B from N(0, STD^2). With 0, training starts at the unchanged backbone."),
    Option("head", "str", TRAINING, default="linear", longest=64,
           help="The classifier: linear; mlp:512,256 (hidden layers of these widths, with BatchNorm, LeakyReLU and "
                "dropout); cosine or cosine:512 (cosine similarity, optionally projected to this width); or text "
                "(cosine, initialised from --prompts)."),
    Option("prompts", "prompts", TRAINING, metavar="FILE.toml",
           help="TOML file with prompt templates and class descriptions, for --head text."),
    Option("targets", "regex", TRAINING, unset="the backbone's preset", longest=512,
           help="Regular expression that selects the layers to train, e.g. 'layer4'."),
    Option("epochs", "int", TRAINING, unset="12, or more for small datasets", minimum=1, job_maximum=1000,
           wording="{} epochs",
           help="Number of passes over the training images."),
    Option("patience", "int", TRAINING, unset="never stop early", minimum=1, job_maximum=1000,
           help="Stop after this many epochs without a better validation score."),
    Option("batch_size", "int", TRAINING, default=32, minimum=1, job_maximum=1024,
           help="Images per training step."),
    Option("learning_rate", "float", TRAINING, flag="--lr", default=4e-3, above=0, job_maximum=1,
           help="Peak learning rate."),
    Option("warmup", "float", TRAINING, default=0.1, minimum=0, below=1,
           help="Fraction of the training steps over which the learning rate rises to its peak."),
    Option("weight_decay", "float", TRAINING, default=0.01, minimum=0, job_maximum=1,
           help="Weight decay of AdamW."),
    Option("label_smoothing", "float", TRAINING, default=0.1, minimum=0, below=1,
           help="Fraction of each label that is spread evenly over all classes."),
    Option("class_weights", "str", TRAINING, default="balanced", choices=("balanced", "none"),
           help="balanced: every class counts the same, however rare. none: every image counts the same."),
    Option("mixup", "float", TRAINING, default=0.0, minimum=0, job_maximum=10,
           help="Blend pairs of images (mixup); the value is the parameter of its Beta distribution. 0 turns it off."),
    Option("cutmix", "float", TRAINING, default=0.0, minimum=0, job_maximum=10,
           help="Paste a rectangle of one image into another (CutMix); the value is the parameter of its Beta "
                "distribution. 0 turns it off."),
    Option("average", "float", TRAINING, default=0.98, minimum=0, below=1,
           help="Decay of the moving average of the trained tensors, which is what is kept. 0 keeps the values of the "
                "last step."),
    Option("cache_trunk", "str", TRAINING, default="auto", choices=("auto", "on", "off"),
           help="Run the frozen layers once on a few augmented views of each image and keep the results on disk during "
                "training: on, off, or auto (on if it saves time)."),
    Option("views", "int", TRAINING, default=4, minimum=1, job_maximum=1000, wording="{} views",
           help="Number of augmented views per image that --cache-trunk keeps."),
    Option("precision", "str", TRAINING, default="auto", choices=("auto", FLOAT32, BFLOAT16), aliases=_SHORT_WORDS,
           help="Number format of the computation: float32, bfloat16, or auto (bfloat16 if it is clearly faster on "
                "the training machine)."),
    Option("trunk", "str", TRAINING, default="float", choices=("float", "int8"),
           help="The frozen layers before the trained ones: float, or int8 (extra int8) for a server that computes "
                "them so. The file records what int8 costs the adapter."),
    Option("seed", "int", TRAINING, default=0, minimum=0, job_maximum=2**53 - 1,  # exact in any JSON reader
           help="Seed of every random choice: the same seed gives the same split and the same result."),
    Option("shots", "int", DATA, unset="all", minimum=1, job_maximum=100_000, wording="{} shots",
           help="Train on only this many images per class."),
    Option("size", "int", DATA, unset="the backbone's", minimum=16, maximum=1024,
           help="Side length of the network's input in pixels."),
    Option("resize", "str", DATA, default="squash", choices=("squash", "crop", "pad"),
           help="How an image is fitted to the input size: squash (stretch the whole image), crop (keep the centre) or "
                "pad (keep the whole image and add black borders)."),
    Option("augment", "str", DATA, default="photo", choices=(
               "photo", "microscopy", "tissue", "photo-robust", "microscopy-robust", "tissue-robust", "none"),
           help="How training images are varied: photo (fixed orientation), microscopy (any orientation), tissue (any "
                "orientation, with crops and stain changes) or none. With -robust, half of them are also scaled down "
                "and compressed, and brightness and hue vary more."),
    Option("augmentation", "table", "",
           help="Changes to single fields of the preset chosen by `augment`.",
           not_in_jobs=_TABLE, not_in_train=_TABLE),
    Option("orientations", "int", DATA, default=1, choices=(1, 2, 4, 8), wording="{} orientations",
           help="Average each prediction over 1, 2 (mirrored), 4 (rotated) or 8 (both) orientations, on the server "
                "too."),
    Option("group_regex", "regex", DATA, unset="every image is its own group", longest=512,
           help="Regular expression; the first group that matches is the patient, slide or source in a file name, "
                "or else in its path below the dataset. Images of one group stay in one split."),
    Option("class_depth", "int", DATA, unset="1, if the layout can be read in one way only", minimum=1, maximum=8,
           help="How many levels of folders name the class: 1 for lung/1.png, 2 for lung/aca/1.png.",
           not_in_jobs="the labels of a dataset are set when it is pushed: lensmount datasets push --class-depth 2"),
    Option("max_image_bytes", "int", DATA, default=32 * 2**20, minimum=1024,
           help="Largest image file in bytes. The server has a setting of the same name.",
           not_in_jobs=_SET_BY_WORKER),
    Option("max_pixels", "int", DATA, default=40_000_000, minimum=1,
           help="Largest image in pixels: 50000000 for photos of 48 megapixels. The server has a setting of the same "
                "name.",
           not_in_jobs=_SET_BY_WORKER),
    Option("validation_fraction", "float", DATA, flag="--val-fraction", default=0.15, minimum=0, below=1,
           help="Fraction of the images held out to choose the best epoch."),
    Option("test_fraction", "float", DATA, default=0.15, minimum=0, below=1,
           help="Fraction of the images held out to measure the result."),
    Option("depth", "int", VOLUMES, unset="16", minimum=1, maximum=512,
           help="Number of slices in the network's input."),
    Option("depth_resize", "str", VOLUMES, default="resample", choices=("resample", "crop"),
           help="How a volume gets that many slices: resample (linear interpolation) or crop (the middle slices, "
                "padded with zeros if there are too few)."),
    Option("window", "window", VOLUMES, unset="percentiles of each volume",
           help="The two intensities that become black and white, e.g. -160 240."),
    Option("auto", "bool", SEARCH, default=False,
           help="Choose method, rank and targets by short trials, compared on the validation part."),
    Option("max_file_bytes", "int", SEARCH, unset="no limit", minimum=1, job_maximum=2**30,
           help="Largest adapter file that --auto may choose."),
    Option("max_seconds", "float", SEARCH, unset="no limit", above=0, job_maximum=7 * 86_400,
           help="Time limit for --auto's trials in seconds. A trial that has started is finished."),
    Option("calibration", "str", TRUST, default="auto", choices=("auto", "part", "cross", "off"),
           help="Which images measure how far the answers can be relied on: part (15 % of the training images, kept "
                "apart), cross (the training images, scored by four more runs, each without a fourth of them), off, or "
                "auto (part from 99 such images of each class on; otherwise cross from 19 training images in 4 groups "
                "on)."),
    Option("coverage", "float", TRUST, default=0.95, minimum=0.5, below=1,
           help="How often the set of labels of an answer holds the right one."),
    Option("accept_accuracy", "float", TRUST, default=0.99, minimum=0.5, below=1,
           help="How often an accepted answer is right; the others are called uncertain."),
    Option("positive", "str", TRUST, unset="none", longest=256,
           help="The label that counts as the positive result: the report has its sensitivity, specificity and "
                "predictive values, and --sensitivity or --specificity sets its threshold."),
    Option("sensitivity", "float", TRUST, above=0, below=1, unset="none",
           help="The share of --positive images to be found, e.g. 0.98: sets the threshold of its score."),
    Option("specificity", "float", TRUST, above=0, below=1, unset="none",
           help="The share of the other images to be left alone, e.g. 0.98: sets the threshold of the score of "
                "--positive."),
    Option("prevalence", "float", TRUST, above=0, below=1, unset="as in the images",
           help="How frequent --positive is where the adapter will be used, e.g. 0.02: the report has the predictive "
                "values for it too."),
    Option("device", "str", MACHINE, default="auto",
           help="cpu, cuda, or auto (cuda if available).",
           not_in_jobs=_SET_BY_WORKER),
    Option("threads", "int", MACHINE, unset="all cores", minimum=1,
           help="Number of CPU threads.",
           not_in_jobs=_SET_BY_WORKER),
    Option("file_dtype", "str", PUBLISHING, default=FLOAT16, choices=(FLOAT16, BFLOAT16, FLOAT32),
           aliases=_SHORT_WORDS,
           help="Number format of the adapter file: float16, bfloat16 or float32."),
    Option("license", "str", PUBLISHING, default="", longest=200,
           help="Licence of the adapter, stored in its file."),
    Option("description", "str", PUBLISHING, default="", longest=4000,
           help="What the adapter is for, stored in its file."),
    Option("author", "str", PUBLISHING, default="", longest=200,
           help="Who made it, stored in its file and shown in the report. Nothing is stored without this option."),
    Option("intended_use", "str", PUBLISHING, default="", longest=4000,
           help="On which images and for which decisions it is meant to be used, stored in its file."),
    Option("limits", "str", PUBLISHING, default="", longest=4000,
           help="Where it must not be used, and what it has not been tested on, stored in its file."),
    Option("labels", "names", "",
           help="Names of the masks.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
    Option("where", "str", "",
           help="Use only the rows of index.csv that match COLUMN=VALUE.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
    Option("loss", "str", "", choices=("dice-bce", "mse"),
           help="dice-bce (1 - soft Dice + cross-entropy) or mse.",
           not_in_jobs=_MASKS, not_in_train=_MASKS),
)

# A job has these in addition: they say what happens before and after its training run.
JOB_OPTIONS = (
    Option("alias", "str", PUBLISHING, longest=64, unset="none",
           help="Move this alias to the new version, after comparing it with the version that has the alias now."),
    Option("canary", "float", PUBLISHING, minimum=0, maximum=100, metavar="PERCENT", unset="none",
           help="With --alias: if the adapter passes, leave the alias where it is, and let the new version answer this "
                "percentage of its requests as a canary. A new alias is set at once."),
    Option("margin", "float", PUBLISHING, default=0.01, minimum=0, maximum=1,
           help="Publish only if the balanced accuracy on the test part is at most this much below that of the adapter "
                "it replaces."),
    Option("force", "bool", PUBLISHING, default=False,
           help="Publish even if the new version is worse."),
    Option("priority", "int", QUEUE, default=0, minimum=-100, maximum=100,
           help="Jobs with a higher priority run first."),
    Option("max_attempts", "int", QUEUE, default=3, minimum=1, maximum=10,
           help="How many workers may try the job, one after the other, before it fails."),
)
# fmt: on


def options_of_jobs() -> tuple[Option, ...]:
    """Every option of POST /jobs, in addition to `dataset` and `adapter`."""
    return tuple(option for option in TRAINING_OPTIONS if not option.not_in_jobs) + JOB_OPTIONS


def options_of_train() -> tuple[Option, ...]:
    """Every option of `lensmount train`, in addition to --report and --json."""
    return tuple(option for option in TRAINING_OPTIONS if not option.not_in_train)
