"""The facts: one Arrow schema each, with its version, its meaning and the meaning of every column.

A fact's fixed columns are exact. `images` and `attributes` also take wide columns, one per attribute, known by their prefix:
wide Parquet is several times faster to correlate than one row per attribute. `run_id` is part of a shard's path, not a column.
"""

from __future__ import annotations

import pyarrow as pa

from cfx.errors import UserError
from warehouse.facts.fact import Fact, Family
from warehouse.facts.fact import column as _column
from warehouse.facts.fact import fact as _fact
from warehouse.facts.fact import optional as _optional

_INSTANT = pa.timestamp("us", tz="UTC")
BIT_SUMS = pa.struct([(name, pa.int64()) for name in ("v", "u", "w")])
KNOWN_SUMS = pa.struct([(name, pa.int64()) for name in ("n", "v", "q", "w")])

WORDED = pa.struct(
    [
        ("attribute", pa.string()),
        ("calibrated_by", pa.string()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("share", pa.float64()),
        ("parted", pa.float64()),
        ("balanced_accuracy", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_with", pa.int64()),
        ("n_without", pa.int64()),
    ]
)

RUNS = _fact(
    "runs",
    "One row per event of an audit: started, then finished or failed. The view `runs` keeps the last event of each run.",
    [
        _column("name", pa.string(), "the audit's name in its configuration"),
        _column("status", pa.string(), "started, finished or failed"),
        _optional("reason", pa.string(), "why it failed, in one line"),
        _column("started", _INSTANT, "when the audit began, UTC"),
        _optional("finished", _INSTANT, "when it ended, UTC; null in the event started"),
        _column("config", pa.string(), "the configuration, JSON"),
        _column("config_hash", pa.string(), "hash of the configuration"),
        _column("fingerprints", pa.string(), "SHA-256 of classifier, data, prior, oracle and judge, JSON"),
        _column("code_version", pa.string(), "version of the code that ran"),
        _column("packages", pa.string(), "versions of the packages, JSON"),
        _column("seeds", pa.list_(pa.int64()), "seeds of the explanations"),
        _column("hardware", pa.string(), "device and machine, in words"),
        _column("classes", pa.list_(pa.string()), "classes in the order of the classifier's outputs"),
        _optional("target_attribute", pa.string(), "oracle's attribute that is the label itself: not ranked; q in CD"),
        _column("method", pa.string(), "counterfactual method"),
        _column("margin", pa.float64(), "equivalence margin: a smaller effect is no finding, in oracle probability"),
        _optional("attempted", pa.int64(), "images given to the audit; null until it ended"),
        _optional("explained", pa.int64(), "images with an explanation"),
        _optional("flipped", pa.int64(), "explanations that flipped"),
        _optional("rejected", pa.int64(), "inputs refused"),
        _optional("sample", pa.string(), "how the images were chosen from the table; null where all of them are audited"),
        _optional("warnings", pa.list_(pa.string()), "what looks wrong about data, networks or prior; null in older runs"),
        _optional(
            "words",
            pa.list_(WORDED),
            "how an oracle by words was calibrated, and agrees with annotations (word_agreement)",
        ),
        _optional(
            "number",
            pa.int64(),
            "which run of its warehouse it is, in the order in which they began, by no clock; null: before",
        ),
    ],
    gained=("reason", "sample", "warnings", "words", "number"),
)

IMAGES = _fact(
    "images",
    "One row per image of the audit.",
    [
        _column("image_id", pa.string(), "SHA-256 of the file, hex"),
        _optional("split", pa.string(), "train, validation, test, as the data set says"),
        _column("path", pa.string(), "relative to the image folder"),
        _column("width", pa.int32(), "of the file, pixels"),
        _column("height", pa.int32(), "of the file, pixels"),
        _optional("label", pa.string(), "the class that the data set gives it"),
        _optional("png", pa.binary(), "the image at audit size, PNG"),
    ],
    Family("a_", pa.bool_(), True, "annotation of that attribute"),
)

ANNOTATIONS = _fact(
    "annotations",
    "One row per row of `data.annotations`: what is known of images that need not be audited. Where a run has some, CD is held "
    "against them instead of those of its own images.",
    [_column("row", pa.int64(), "row of the table, from 1, its header not counted")],
    Family("a_", pa.bool_(), True, "annotation of that attribute"),
)

REJECTED = _fact(
    "rejected",
    "One row per input that was unreadable or refused.",
    [
        _column("path", pa.string(), "relative to the image folder"),
        _column("stage", pa.string(), "where it was refused: ingest, ..."),
        _column("reason", pa.string(), "unreadable, truncated, mode, depth, too_small, duplicate, missing, ..."),
        _column("error", pa.string(), "the error in words"),
        _optional("label", pa.string(), "the class that the data set gives it; null without one, and in older runs"),
        _optional("split", pa.string(), "train, validation, test, as the data set says; null as for the label"),
    ],
    gained=("label", "split"),
)

PREDICTIONS = _fact(
    "predictions",
    "One row per image: what the audited classifier says of the clean image.",
    [
        _column("image_id", pa.string(), "SHA-256 of the file, hex"),
        _column("class", pa.string(), "the most probable class"),
        _column("probabilities", pa.list_(pa.float32()), "softmax, in the order of the run's classes"),
    ],
)

LABEL_ISSUES = _fact(
    "label_issues",
    "One row per labelled image: how well its label goes with the classifier's own probabilities, by confident learning "
    "(Northcutt, Jiang & Chuang 2021, arXiv:1911.00068; cleanlab). Where the extra `quality` is not installed there are none.",
    [
        _column("image_id", pa.string(), "SHA-256 of the file, hex"),
        _column("label", pa.string(), "the class that the data set gives it"),
        _column("suggested", pa.string(), "the class that the classifier says"),
        _column("quality", pa.float64(), "self-confidence: the classifier's probability of the label, 0 to 1; the lowest first"),
        _column("issue", pa.bool_(), "confident learning takes the label for wrong, or the classifier is"),
    ],
)

SHARED_FILES = _fact(
    "shared_files",
    "One row per split of the table that was not audited: which audited images it holds, too. Of audits of one split alone.",
    [
        _column("other_split", pa.string(), "the split"),
        _column("files", pa.int64(), "its files that could be compared"),
        _column("paths", pa.list_(pa.string()), "audited files that it holds: by name, or byte for byte"),
        _column("twins", pa.list_(pa.string()), "their counterparts in that split, in the same order"),
    ],
)

_KEYS = [
    _column("image_id", pa.string(), "SHA-256 of the file, hex"),
    _column("method", pa.string(), "counterfactual method"),
    _column("arm", pa.string(), "guided, or null: the same method with guidance weight 0"),
    _column("seed", pa.int64(), "seed of the image's noise"),
]

EXPLANATIONS = _fact(
    "explanations",
    "One row per image, method, arm and seed: a counterfactual and what the classifiers say of it.",
    [
        *_KEYS,
        _column("source", pa.string(), "class predicted on the clean image"),
        _column("target", pa.string(), "target class"),
        _column("attempt", pa.int32(), "rung of the retry ladder, from 0"),
        _column("p_source", pa.float64(), "probability of the source class before"),
        _column("p_target", pa.float64(), "probability of the target class before"),
        _column("p_source_cf", pa.float64(), "probability of the source class after"),
        _column("p_target_cf", pa.float64(), "probability of the target class after"),
        _column("flipped", pa.bool_(), "the classifier says target of the float image"),
        _column("flipped_8bit", pa.bool_(), "the classifier says target of the PNG"),
        _optional("judge_flipped", pa.bool_(), "the judge says target; null without a judge"),
        _column("l1", pa.float64(), "mean |difference|, images on [0, 1]"),
        _column("l2", pa.float64(), "Euclidean norm of the difference, images on [0, 1]"),
        _column("linf", pa.float64(), "largest |difference|, images on [0, 1]"),
        _column("mask_fraction", pa.float64(), "share of pixels that the mask lets change"),
        _optional(
            "autoencoder_l1",
            pa.float64(),
            "mean |difference| that encoding and decoding alone makes, images on [0, 1]; null of a prior of images, in old runs",
        ),
        _column("nfe_forward", pa.int64(), "denoiser evaluations"),
        _column("nfe_backward", pa.int64(), "denoiser evaluations differentiated through"),
        _column("seconds", pa.float64(), "time of this explanation: its share of the batch"),
        _column("device", pa.string(), "device it ran on"),
        _column("png", pa.binary(), "the counterfactual, PNG"),
        _optional("mask_png", pa.binary(), "the mask, PNG"),
    ],
    gained=("autoencoder_l1",),
)

ATTRIBUTES = _fact(
    "attributes",
    "One row per explanation: the oracle's attributes before and after.",
    list(_KEYS),
    Family("p_", pa.float32(), False, "oracle's probability of that attribute on the input"),
    Family("q_", pa.float32(), False, "oracle's probability of that attribute on the counterfactual"),
    Family("d_", pa.float32(), False, "change of that probability, q - p"),
)

ATTRIBUTE_SUMS = _fact(
    "attribute_sums",
    "One row per direction and bucket of images, shard by shard: what the statistics need of `attributes`, summed exactly.",
    [
        _column("method", pa.string(), "counterfactual method"),
        _column("source", pa.string(), "class predicted on the clean image"),
        _column("target", pa.string(), "target class"),
        _column("bucket", pa.int64(), "hash(image_id) % 1024"),
        _column("images", pa.int64(), "different images explained in both arms"),
        _column("pairs", pa.int64(), "images and seeds explained in both arms"),
        _column("flips", pa.int64(), "guided explanations that flipped"),
        _optional("query", pa.int64(), "sum over the flips of the change of the target attribute's bit; null where it has none"),
        _optional("query_size", pa.int64(), "sum over the flips of its absolute value"),
    ],
    Family("d_", pa.float64(), True, "sum over the pairs of the guided change of that probability minus the null's"),
    Family("s_", BIT_SUMS, True, "sums over the flips of that bit's change: v, of its absolute value: u, times query: w"),
)

ANNOTATION_SUMS = _fact(
    "annotation_sums",
    "One row per split, shard by shard: what CD needs of the annotations of `images`, summed exactly.",
    [_column("train", pa.bool_(), "images of the train split")],
    Family(
        "s_",
        KNOWN_SUMS,
        True,
        "n images with it and the target attribute annotated; sums of it: v, of the latter: q, of both: w",
    ),
)

MEASUREMENTS = _fact(
    "measurements",
    "One row per guided explanation and measure: what was measured on its images.",
    [
        *_KEYS,
        _column("measure", pa.string(), "cout, cosine, lpips, l1_sum, sparsity, ..."),
        _optional("encoder", pa.string(), "the network or map it was measured with; null where there is none"),
        _column("value", pa.float64(), "the measure's value"),
    ],
)

SALIENCY = _fact(
    "saliency",
    "One row per explained image and map: where the classifier finds evidence for the class it predicts on the image.",
    [
        _KEYS[0],
        _column("map", pa.string(), "hit, rollout, grad_cam, grad_cam++ or integrated_gradients"),
        _column("png", pa.binary(), "black: nothing, or against the class; white: the image's most; PNG at audit size"),
    ],
)

FEATURES = _fact(
    "features",
    "One row per image and encoder: an input image (method, arm and seed are null) or a guided counterfactual.",
    [
        _KEYS[0],
        *(pa.field(key.name, key.type, nullable=True, metadata=key.metadata) for key in _KEYS[1:]),
        _column("encoder", pa.string(), "oracle, inception, vggface2, simsiam"),
        _column("vector", pa.list_(pa.float32()), "the image as the encoder sees it"),
    ],
)

PAIRS = _fact(
    "pairs",
    "One row per image and two seeds: how far apart its two guided counterfactuals are.",
    [
        *_KEYS[:3],
        _column("seed_a", pa.int64(), "the smaller seed"),
        _column("seed_b", pa.int64(), "the larger seed"),
        _column("encoder", pa.string(), "backbone of the distance: vgg or alex"),
        _column("lpips", pa.float64(), "LPIPS of the two counterfactuals"),
    ],
)

SET_METRICS = _fact(
    "set_metrics",
    "One row per metric of whole sets of images, and one per metric that is absent, with the reason.",
    [
        _column("method", pa.string(), "counterfactual method"),
        _column("metric", pa.string(), "fid, sfid, kid, crossover_fid, or the name of an absent metric"),
        _optional("encoder", pa.string(), "the network that the images were seen with"),
        _optional("value", pa.float64(), "the metric; null where it is absent"),
        _column("n", pa.int64(), "counterfactuals compared"),
        _column("n_real", pa.int64(), "input images they were compared with"),
        _optional("splits", pa.int64(), "splits or blocks that the value is a mean over"),
        _optional("sd", pa.float64(), "standard deviation over the splits or blocks"),
        _optional("low", pa.float64(), "95 % interval, where the metric has one"),
        _optional("high", pa.float64(), "95 % interval, where the metric has one"),
        _optional("absent", pa.string(), "why there is no value, and the way to have one"),
    ],
)

DRAWS = _fact(
    "draws",
    "One row per image that was drawn for a night of a nightly sample, when its audit began: a night that is audited again has "
    "the same images. Audits of the same data share a draw, so its run_id is its own.",
    [
        _column("file", pa.string(), "relative to the image folder"),
        _column("night", pa.date32(), "the night"),
    ],
)

EDITS = _fact(
    "edits",
    "One row per image and attribute: that attribute edited alone, its sham, the same redrawing without the edit, and the image "
    "with the difference of the two pasted. They depend on no classifier, so their run_id is their own; other audits use them.",
    [
        _column("image_id", pa.string(), "SHA-256 of the file, hex"),
        _column("attribute", pa.string(), "the attribute that was edited"),
        _column("switched_on", pa.bool_(), "edited towards its presence; false: towards its absence"),
        _column("confirmed", pa.bool_(), "the oracle sees the attribute change, redrawn and pasted, and not in the sham"),
        _column(
            "side", pa.float64(), "largest |change| of another attribute's probability: edit against sham, pasted against image"
        ),
        _optional("side_attribute", pa.string(), "the attribute that changed so; null where there is no other"),
        _column("mask_fraction", pa.float64(), "share of pixels that were redrawn"),
        _column("nfe_forward", pa.int64(), "denoiser evaluations of edit and sham"),
        _column("seconds", pa.float64(), "time of edit and sham"),
        _column("png", pa.binary(), "the edit, PNG"),
        _column("sham_png", pa.binary(), "the sham, PNG"),
        _column("pasted_png", pa.binary(), "the image with what the edit changed beyond the sham, PNG"),
        _optional("l1", pa.float64(), "mean |edit - image|, of values in [0, 1]"),
        _optional("sham_l1", pa.float64(), "mean |sham - image|, of values in [0, 1]"),
    ],
    Family("d_", pa.float32(), False, "oracle's probability of that attribute, edit minus sham"),
    gained=("pasted_png", "l1", "sham_l1"),
)

EFFECTS = _fact(
    "effects",
    "One row per image and attribute: what the audited classifier says before and after an edit of that attribute alone.",
    [
        _column("image_id", pa.string(), "SHA-256 of the file, hex"),
        _column("attribute", pa.string(), "the attribute that was edited"),
        _column("edits", pa.string(), "run_id of the edit in `edits`"),
        _column("switched_on", pa.bool_(), "edited towards its presence; false: towards its absence"),
        _column("counted", pa.bool_(), "the oracle confirms the edit and no other attribute changed more than the audit allows"),
        _column(
            "side", pa.float64(), "largest |change| of another attribute's probability: edit against sham, pasted against image"
        ),
        _column("probabilities_before", pa.list_(pa.float32()), "softmax on the image, in the order of the run's classes"),
        _column("probabilities_sham", pa.list_(pa.float32()), "softmax on the sham: redrawn alike, without the edit"),
        _column("probabilities_after", pa.list_(pa.float32()), "softmax on the edit"),
        _column("probabilities_pasted", pa.list_(pa.float32()), "softmax on the image with the edit pasted"),
        *(
            _optional(f"judge_{arm}", pa.list_(pa.float32()), f"the judge's on the same, {arm}; null without one in this process")
            for arm in ("before", "sham", "after", "pasted")
        ),
    ],
    gained=("probabilities_pasted", "judge_before", "judge_sham", "judge_after", "judge_pasted"),
)

QUERIES = _fact(
    "queries",
    "One row per call to a black-box classifier, retries included: the query ledger.",
    [
        _column("classifier", pa.string(), "address, file or function that was queried"),
        _column("call", pa.int64(), "number of the call to this classifier in this run, from 1"),
        _column("asked", _INSTANT, "when, UTC"),
        _column("batch", pa.int64(), "images in the call"),
        _column("seconds", pa.float64(), "until it ended"),
        _column(
            "status", pa.string(), "HTTP status, answered, timed out, broken off, not reached (free), interrupted, failed: why"
        ),
    ],
)

POLICIES = _fact(
    "policies",
    "One row per policy that a run was held to by the gate. The view `policies` keeps the newest of each run.",
    [
        _column("written", _INSTANT, "when it was set, UTC"),
        _optional("base", pa.string(), "run that this one is compared with"),
        _optional(
            "forbidden",
            pa.list_(pa.string()),
            "attributes it must not rely on; null: all but the label, named or not",
        ),
        _column("maximum_effect", pa.float64(), "largest effect allowed, in oracle probability"),
        _column("minimum_images", pa.int64(), "fewest images that may accuse or clear"),
        _optional("minimum_flip_rate", pa.float64(), "floor of the flip rate"),
        _optional("minimum_judge_flip_rate", pa.float64(), "floor of the judge's flip rate"),
        _column("maximum_rise", pa.float64(), "how much further than in the base an attribute may move"),
        _optional("maximum_cd_rise", pa.float64(), "how much CD may rise above the base's"),
        _optional("explained", pa.bool_(), "undecided where the names explain too little of the answers; null: true"),
        _optional("on_fail", pa.string(), "fail or warn: how a deployment's run ends when the gate fails; null: fail"),
        _optional("on_inconclusive", pa.string(), "the same for a gate that is undecided; null: warn"),
        _optional("protected", pa.list_(pa.string()), "attributes whose groups it must treat alike; null: none"),
        _optional("maximum_error_gap", pa.float64(), "how much more often it may err on one group of a label; null: 0.1"),
    ],
    gained=("explained", "on_fail", "on_inconclusive", "protected", "maximum_error_gap"),
)

STAGES = _fact(
    "stages",
    "One row per piece of work of an audit: how long it took, and where. What a later run found done has no second row.",
    [
        _column("stage", pa.string(), "the fact that it wrote"),
        _column("shard", pa.string(), "the key of the shard, or of the first of several"),
        _column("began", _INSTANT, "when it began, UTC"),
        _column("ended", _INSTANT, "when it had written, UTC"),
        _column("host", pa.string(), "machine that it ran on"),
        _column("process", pa.int64(), "process id there"),
        _optional(
            "busy_seconds",
            pa.float64(),
            "of that time, seconds that its device computed: CPU time of the thread at work; of a GPU, its utilisation by all "
            "processes, which takes the package nvidia-ml-py; null: not known, or before",
        ),
    ],
    gained=("busy_seconds",),
)

CANARIES = _fact(
    "canaries",
    "One row per audit with a canary: what the same audit made of a planted and of a clean twin of the classifier.",
    [
        _column("attribute", pa.string(), "the attribute that the planted twin leans on"),
        _column("planted_run", pa.string(), "run_id of the planted twin's audit"),
        _column("clean_run", pa.string(), "run_id of the clean twin's audit"),
        _column("verdict", pa.string(), "of the attribute in the planted twin's audit"),
        _column("rank", pa.int64(), "of the attribute in the planted twin's audit"),
        _column("power", pa.float64(), "chance that such an audit confirms the planted attribute"),
        _column("false_alarms", pa.list_(pa.string()), "attributes confirmed in the clean twin's audit"),
        _column("false_alarm_rate", pa.float64(), "chance that such an audit confirms any attribute of the clean twin"),
        _column("passed", pa.bool_(), "the planted attribute is confirmed, and none of the clean twin"),
        _column("why", pa.string(), "in words"),
    ],
)

TRUTHS = _fact(
    "truths",
    "One row per attribute of an audit whose truth is known, as it is on Portraits: what the audit should have found.",
    [
        _column(
            "kind",
            pa.string(),
            "what was planted in the classifier's training set: shortcut, two, cause, mark; noisy: shortcut, noisy oracle; "
            "or a kind of shortcut that no attribute names",
        ),
        _column("planted", pa.list_(pa.string()), "the planted attributes; none in a clean twin"),
        _column("rho", pa.float64(), "correlation that was planted"),
        _column("seed", pa.int64(), "seed of the classifier's training"),
        _column("images", pa.int64(), "images audited"),
        _column("attribute", pa.string(), "an attribute of Portraits, or the kind that no attribute names"),
        _column("effect", pa.float64(), "exact mean change of P(second class) when the attribute alone is switched on"),
        _column("portraits", pa.int64(), "portraits that the exact effect is a mean over"),
    ],
)

REVIEWS = _fact(
    "reviews",
    "One row per mark that a person gave a finding: an attribute, or one explanation.",
    [
        _column("written", _INSTANT, "when it was given, UTC"),
        _column("reviewer", pa.string(), "who gave it, as they call themselves"),
        _column("mark", pa.string(), "confirmed, rejected or out of distribution"),
        _optional("attribute", pa.string(), "the attribute that was judged; null for an explanation"),
        _optional("image_id", pa.string(), "image of the explanation that was judged; null for an attribute"),
        _optional("method", pa.string(), "its method"),
        _optional("seed", pa.int64(), "its seed"),
        _column("note", pa.string(), "the reviewer's words"),
    ],
)

NAMES = _fact(
    "names",
    "One row per name that a person gave what had none: a property, or a place of the image, shown on a card.",
    [
        _column("written", _INSTANT, "when it was given, UTC"),
        _column("reviewer", pa.string(), "who gave it, as they call themselves"),
        _column("kind", pa.string(), "property or place"),
        _column("claim", pa.string(), "the name of that claim in `findings`"),
        _optional("name", pa.string(), "what it is; null: not a thing"),
        _column("has", pa.list_(pa.string()), "images that have it, by the person's own eyes"),
        _column("lacks", pa.list_(pa.string()), "images that have not"),
    ],
)

PROPERTIES = _fact(
    "properties",
    "One row per image: what can be measured on it and its file without any model (`cfx.evidence.properties` says how).",
    [_column("image_id", pa.string(), "SHA-256 of the file, hex")],
    Family("m_", pa.float64(), True, "that measured property: brightness, contrast, warmth, compression, …"),
)

_CLASS = _column(
    "class", pa.string(), "the class whose probability is meant; own prediction: of each image that which it is predicted"
)

PROBES = _fact(
    "probes",
    "One row per image, probe and direction: the classifier's answer when one property of the image is moved, down and up.",
    [
        _column("image_id", pa.string(), "the image that was moved"),
        _CLASS,
        _column("probe", pa.string(), "the property that is moved; mirror: left becomes right"),
        _column("direction", pa.string(), "down or up"),
        _column("strength", pa.float64(), "of the probe, -1 to 1; 0 leaves the image as it is"),
        _column("counted", pa.bool_(), "the probe takes this image at least half of the way from low to high"),
        _column("p_before", pa.float64(), "P(class) of the image as it is"),
        _column("p_after", pa.float64(), "P(class) of the image moved"),
        _optional(
            "moved_png", pa.binary(), "the image moved, PNG: of a few of each property that the answer reacts to; else null"
        ),
    ],
    gained=("moved_png",),
)

PROPERTY_CLAIMS = _fact(
    "property_claims",
    "One row per class and property: what moving that property alone does to the answer, and what that is called.",
    [
        _CLASS,
        _column("property", pa.string(), "the property that was moved"),
        _column("effect", pa.float64(), "mean change of P(class) from the 10th to the 90th percentile of the property"),
        _column("low", pa.float64(), "lower end of its 95 % interval over images"),
        _column("high", pa.float64(), "upper end"),
        _column("p", pa.float64(), "p-value of no effect, sign flips"),
        _column("n", pa.int64(), "images that count"),
        _column("down", pa.float64(), "mean change of P(class) by the move down"),
        _column("up", pa.float64(), "mean change by the move up"),
        _column("size", pa.float64(), "mean |change|, the larger of both directions"),
        _column("in_data", pa.bool_(), "these images vary in the property; false: moved by a fixed small dose"),
        _column("association", pa.float64(), "rank correlation of the property with the answers to the images as they are"),
        _column("association_p", pa.float64(), "its p-value"),
        _optional("kind", pa.string(), "relies on, fragile, or null for neither"),
        _optional("through", pa.string(), "the property that explains the same answers better"),
        _optional("tied", pa.list_(pa.string()), "relied-on properties that these images cannot tell it from"),
        _column("moves", pa.string(), "other properties that the move drags along, standard deviations, JSON"),
    ],
    gained=("tied",),
)

TRANSPLANTS = _fact(
    "transplants",
    "One row per image, donor and place: the classifier's answer when that place is pasted from the donor.",
    [
        _column("image_id", pa.string(), "the image that is pasted into"),
        _column("donor_id", pa.string(), "the image that the place is from"),
        _CLASS,
        _column("place", pa.int64(), "cell of the grid, row by row from 0"),
        _column("other", pa.bool_(), "the donor is predicted the other class; false: the same, which is the null"),
        _column("p_before", pa.float64(), "P(class) of the image as it is"),
        _column("p_after", pa.float64(), "P(class) with the place pasted"),
        _optional(
            "pasted_png", pa.binary(), "the image with it pasted, PNG: a few of each place that decides unnamed; else null"
        ),
    ],
    gained=("pasted_png",),
)

_DECIDES = [  # of a place, whatever it is
    _column("effect", pa.float64(), "mean move of P(class) towards the donor's class, less that by donors of the same class"),
    _column("low", pa.float64(), "lower end of its 95 % interval over images"),
    _column("high", pa.float64(), "upper end"),
    _column("p", pa.float64(), "p-value of no effect, sign flips"),
    _column("n", pa.int64(), "images that count"),
    _column("residual", pa.float64(), "what is left of the effect when what the named attributes explain is taken away"),
    _column("residual_low", pa.float64(), "lower end of its interval"),
    _column("residual_high", pa.float64(), "upper end"),
    _column("decides", pa.bool_(), "the place decides by .1 or more, and not by chance"),
    _column("unnamed", pa.bool_(), "so does what is left of it without the named attributes"),
    _column("attributes", pa.list_(pa.string()), "named attributes that lie there, by the oracle's own map"),
    _optional("oracle", pa.bool_(), "an oracle answered the same transplants, so there are names to account for a place"),
    _optional(
        "beyond_label",
        pa.bool_(),
        "an unnamed place goes with the answers more than the label accounts for; null without labels",
    ),
]

_EXCHANGE = [
    _optional(
        "exchange",
        pa.float64(),
        "mean of P(class) with what decides there (in cells also those that touch it and decide), less that without it; null "
        "where it was not asked",
    ),
    _optional("exchange_low", pa.float64(), "lower end of its interval"),
    _optional("exchange_high", pa.float64(), "upper end"),
    _optional("exchange_n", pa.int64(), "images that it was measured in"),
]

PLACE_CLAIMS = _fact(
    "place_claims",
    "One row per class and place of the image: how much of the answer that place alone decides.",
    [
        _CLASS,
        _column("place", pa.int64(), "cell of the grid, row by row from 0"),
        _column("grid", pa.int64(), "cells along a side"),
        *_DECIDES,
        _column("framing", pa.float64(), "how alike the images are framed, 0 to 1: the map is that much sharper"),
        *_EXCHANGE,
    ],
    gained=("oracle", "beyond_label", "exchange", "exchange_low", "exchange_high", "exchange_n"),
)

SEGMENT_CLAIMS = _fact(
    "segment_claims",
    "One row per class and part of the images, as the user's masks have it: how much of the answer that part alone decides.",
    [_CLASS, _column("segment", pa.string(), "the part; rest: what no mask covers"), *_DECIDES, *_EXCHANGE],
)

EXPLAINED = _fact(
    "explained",
    "One row per class and set of inputs: the share of the classifier's answers that can be predicted from them.",
    [
        _CLASS,
        _column("inputs", pa.string(), "label, label and attributes, properties, generic features, and names with one of these"),
        _column("r2", pa.float64(), "out-of-fold R2 of the log-odds of P(class); below 0: worse than their mean"),
        _column("low", pa.float64(), "lower end of its 95 % interval over images"),
        _column("high", pa.float64(), "upper end"),
        _column("model", pa.string(), "ridge or boosting, the better"),
        _column("names", pa.bool_(), "this is the share of all that was named"),
        _column("ceiling", pa.bool_(), "this is the largest share of all"),
        _column("missing", pa.float64(), "ceiling minus names"),
        _column("missing_low", pa.float64(), "lower end of its interval"),
        _column("missing_high", pa.float64(), "upper end"),
        _column("cleared", pa.bool_(), "the names explain enough for a clear verdict"),
        _column("why", pa.string(), "the decision in words"),
        _column("n", pa.int64(), "images"),
    ],
)

FACTS: dict[str, Fact] = {
    fact.name: fact
    for fact in (
        RUNS,
        IMAGES,
        ANNOTATIONS,
        REJECTED,
        PREDICTIONS,
        LABEL_ISSUES,
        SHARED_FILES,
        PROPERTIES,
        EXPLAINED,
        PROBES,
        PROPERTY_CLAIMS,
        TRANSPLANTS,
        PLACE_CLAIMS,
        SEGMENT_CLAIMS,
        EXPLANATIONS,
        ATTRIBUTES,
        ATTRIBUTE_SUMS,
        ANNOTATION_SUMS,
        MEASUREMENTS,
        SALIENCY,
        FEATURES,
        PAIRS,
        SET_METRICS,
        DRAWS,
        EDITS,
        EFFECTS,
        CANARIES,
        TRUTHS,
        QUERIES,
        POLICIES,
        STAGES,
        REVIEWS,
        NAMES,
    )
}


def fact_named(name: str) -> Fact:
    """The fact of that name. Raises UserError for a name that is none, with the names that are."""
    if name not in FACTS:
        raise UserError(f"there is no fact {name!r}; the facts are {', '.join(FACTS)}")
    return FACTS[name]
