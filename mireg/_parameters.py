"""Every number of the method that a user does not set.

What a user may set is in `mireg.Settings`. Each number here has a unit and a reason,
and what chose it where that was measured. "Ablation" is the table of
``scripts/ablation.py``. Where no measurement is named, none is known.

The engine reads them as ``parameters.NAME`` when it runs, so that a study can change
one and measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

#: Voxels from which on memory matters more than time: whole numbers of a file are kept
#: as such, and channels compared one after the other.
LARGE = 2**25

# --- the intensities of one image (`_intensity`) ------------------------------------

#: Voxels looked at to learn an intensity scale, at most.
SCALE_VOXELS = 300_000

#: Shares of the intensities beyond which they are padding, metal or spikes.
SCALE_TAILS = (0.0002, 0.9998)

#: Hounsfield units of air. No tissue has fewer; scanners pad with less.
AIR_HU = -1024.0

#: An image with more than this share of its voxels in this range holds Hounsfield
#: units: the air around a patient, which other images do not have there.
AIR_SHARE, AIR_RANGE_HU = 0.05, (AIR_HU - 76.0, -900.0)

#: Share of the foreground's intensities between the ends of the scale. The tails are
#: vessels and noise, which would use up bins.
SCALE_ENDS = (0.005, 0.995)

#: Knots of the scale, and quantiles of the foreground that it is made from.
SCALE_KNOTS, SCALE_QUANTILES = 257, 100

#: Quantile of the contrast to the background whose half is the threshold where Otsu's
#: cannot be found, and bins of the histogram for that.
CONTRAST_TOP, OTSU_BINS = 0.99, 256

#: How far the scale goes from even steps of intensity (0) to equal shares of the
#: foreground (1). Equal shares alone take contrast from small dark structures, even
#: steps leave bins empty where intensities have long tails. Ablation: on real pairs
#: even steps were better by 0.03 mm, on phantoms neither.
EQUALISE = 0.5

#: Width of the box's edges from which the background is read, as a share of its side.
EDGE_SHARE = 1 / 16

# --- the foreground of one image (`_prepare`) ---------------------------------------

#: Voxels along each axis of the low-resolution image, in the geometric mean: 4 to 6 mm
#: for a head.
LOW_RESOLUTION_VOXELS = 40

#: How far around the foreground to sample, in RMS radii of it. The outline must show,
#: but the air around a slab fits any air: at 0.2 eight of 40 pairs of two or three
#: slices were wrong, at 0.1 none of 100.
RIM_RADII = 0.1

#: Share of foreground in a neighbourhood from which it is sampled; at most half of the
#: largest share that there is, for images of noise.
SAMPLING_SHARE = 0.02

#: Width (sigma) of the smoothing that estimates the bias field, in RMS radii: 7 mm for
#: a head. In a trial on a shaded EPI 15 mm made the right pose the best one, and 40 mm
#: was too coarse.
BIAS_RADII = 0.1

#: Contrast, as a share of its mean, that stands in where there is no foreground to
#: estimate the bias field from; and the least that the field may be.
BIAS_OUTSIDE, BIAS_LEAST = 0.02, 0.1

# --- the resolutions of a pair (`_engine.levels`) -----------------------------------

#: An image much finer than its partner is shrunk to this share of the partner's voxel
#: size. Blocks as large as the partner's voxels would blur it a second time.
FINEST_SHARE = 0.7

#: The coarsest level has at least this many voxels in the foreground's RMS radius, and
#: in the foreground: fewer do not show how a head is turned.
COARSEST_RADIUS_VOXELS, COARSEST_VOXELS = 6, 1000

#: Width (sigma) of the smoothing of a shrunk image, in voxels of the level. A search
#: does as well without, a start that is given does not: of 20 starts 10 to 30 mm and
#: degrees off (PET, shaded EPI) 15 came right with it, 9 without.
SMOOTHING_VOXELS = 0.6

#: A Gaussian is cut off at so many sigmas.
GAUSSIAN_CUT = 3.0

#: Samples of a level for each of its voxels in the sampling mask, at the finest level
#: (smoother similarity) and at those before it.
FINEST_SAMPLES_PER_VOXEL, SAMPLES_PER_VOXEL = 4, 1

#: Fewest samples of a level; the most are `Settings.samples` at the finest level, a
#: fourth at the next, and half as many at each before that.
MIN_SAMPLES = 8000

#: Candidates are compared with one in so many of the samples.
SUBSAMPLING = 4

#: Fewer samples than this, in a mask or where there are data, fill no joint histogram.
ENOUGH_SAMPLES = 500

#: Normalised intensities, 0 to 1, that a mask must span at low resolution: one of the
#: 32 bins of the joint histogram, as within one bin nothing is told.
MASK_CONTRAST = 1 / 32

#: Bins of the joint histogram are no more than the samples to this power: each bin of
#: a row then holds samples.
BINS_PER_SAMPLES = 1 / 3

#: Bins of the joint histogram that the Parzen window needs beyond the intensities, one
#: below and two above, and a little: what `_kernels.joint_histogram` has as well.
PARZEN_MARGIN = 3.001

#: Irrational steps of a low-discrepancy sequence in three dimensions: powers of the
#: inverse of the real root of x^4 = x + 1 (Roberts 2018).
SAMPLE_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)

#: The channels of a pair that are compared. A receive coil's bias field can hide the
#: right pose: each image is also compared with its bias field divided out.
#: Ablation: channels.
CHANNELS = ("original", "sampled_corrected", "interpolated_corrected")

#: Those of them that the global search scores: they share the interpolated image, so
#: that each pose is visited once for both.
SEARCHED_CHANNELS = ("original", "sampled_corrected")

#: The channel in which the best pose must have no runner-up for a search to be
#: confident.
UNIMODAL_CHANNEL = "sampled_corrected"

# --- the global search (`_engine.search`) -------------------------------------------


@dataclass(frozen=True)
class ExhaustiveScoring:
    """How all starting poses are ranked by nearest-neighbour joint histograms.

    Attributes
    ----------
    bins : int
        Bins of the joint histogram along each axis.
    samples : int
        Samples that are counted.
    keep : int
        The best so many go on, in each channel.
    """

    bins: int
    samples: int
    keep: int


@dataclass(frozen=True)
class PatternStage:
    """One stage of a pattern search.

    Attributes
    ----------
    bins, samples : int
        By which poses are ranked, as in `ExhaustiveScoring`.
    keep : int
        The best so many are improved.
    steps : int
        Trial steps, each 0.7 times as long as the one before.
    """

    bins: int
    samples: int
    keep: int
    steps: int


@dataclass(frozen=True)
class SearchSchedule:
    """How much a global search tries.

    Attributes
    ----------
    exhaustive : ExhaustiveScoring
        How all starting poses are ranked.
    pattern : tuple of tuples of PatternStage
        The stages at each level that is searched, the coarsest first.
    """

    exhaustive: ExhaustiveScoring
    pattern: tuple[tuple[PatternStage, ...], ...]


#: Enough for most pairs: few poses, on two coarse levels. Ablation: thorough search.
QUICK_SEARCH = SearchSchedule(
    ExhaustiveScoring(bins=8, samples=128, keep=5000),
    (
        (
            PatternStage(bins=12, samples=500, keep=1000, steps=0),
            PatternStage(bins=16, samples=1500, keep=300, steps=1),
            PatternStage(bins=16, samples=2000, keep=150, steps=1),
        ),
        (
            PatternStage(bins=16, samples=2000, keep=80, steps=1),
            PatternStage(bins=16, samples=2000, keep=50, steps=1),
            PatternStage(bins=16, samples=2000, keep=30, steps=3),
        ),
    ),
)

#: For pairs that show the right pose in their details only: many poses are improved
#: before they are judged, at one level that shows details.
THOROUGH_SEARCH = SearchSchedule(
    ExhaustiveScoring(bins=8, samples=200, keep=10_000),
    (
        (
            PatternStage(bins=12, samples=600, keep=3000, steps=3),
            PatternStage(bins=16, samples=1000, keep=1000, steps=2),
            PatternStage(bins=16, samples=2000, keep=300, steps=2),
            PatternStage(bins=16, samples=3000, keep=60, steps=2),
        ),
    ),
)

#: Each trial step is this share of the one before it: six of them reach a tenth.
STEP_RATIO = 0.7

#: The centroid of the sampled foreground is tried at places no less than this share of
#: its own distance from the border deep in the interpolated foreground.
DEPTH_SHARE = 0.5

#: The first trial step, as a share of the angle between neighbouring orientations.
FIRST_STEP = 1 / 2

#: Most places of the translation grid, about; a whole head has far fewer.
MAX_TRANSLATIONS = 700

#: Rotation vector (rad) between the orientations of one restart and the next, and the
#: direction in which the translation grid is shifted: any will do that is no symmetry.
RESTART_ROTATION = (0.9, 0.5, 0.3)

#: A pose elsewhere that explains more than this share of the information of the best is
#: a runner-up to reckon with. The largest of 208 right answers, of all kinds, was 0.88;
#: of four wrong ones of the ablation 0.70 to 1.00.
RUNNER_UP_SHARE = 0.9

#: Distance of two poses, RMS over the foreground in its RMS radii, from which they are
#: different answers: 12 mm for a head, less than a vertebra for a spine.
DISTINCT_RADII = 0.2

#: The same distance below which one of two poses is dropped while they are improved,
#: and after a local optimisation.
PATTERN_RADII, OPTIMUM_RADII = 0.05, 0.05


#: By `Settings.effort`: how many thorough searches are made in doubt before each
#: refinement, while the answer is in doubt. Of 27 poses of a real neck 23 came
#: right after the first, the others after two or three; of the kinds to choose on all
#: that came right did so after two.
EFFORT = MappingProxyType(
    {"quick": (), "normal": (1, 1, 2), "thorough": (1, 1, 2, 4, 4)}
)

#: After a search in doubt the next one follows where the answer is less likely right
#: than this. Of 27 pairs of kinds to choose on, all right, none was less than 0.93; of
#: 54 poses of spines one ended a vertebra off, at 0.77.
SEARCH_ON_BELOW = 0.9

# --- the refinement of candidates (`_engine.optimize`) ------------------------------

#: How many candidates of a channel are optimised, and go on to the next level. Twelve
#: after a search in doubt, chosen after eight evaluations of each, changed no answer.
BEAM_WIDTH = 5

#: After a search that left no doubt, what explains less than this share of what the
#: best candidate does is pruned: wrong poses explain a third. It changes no answer;
#: without it refinement took a tenth longer (ablation), most where voxels are fine.
PRUNE_SHARE = 0.5

#: Most evaluations of a local optimisation.
MAX_EVALUATIONS = 40

#: Length of a step, in voxels, below which a candidate, and the answer, has converged.
CANDIDATE_TOLERANCE, ANSWER_TOLERANCE = 0.1, 0.0005

#: Slope, relative to the first, at which BFGS stops as well.
GRADIENT_TOLERANCE = 1e-4

#: Share of the samples inside the interpolated image below which a pose counts as one
#: without overlap.
MIN_OVERLAP = 0.02

#: Voxels between the poses whose gradients tell the curvature of a maximum: further
#: than the ripples that interpolation makes.
CURVATURE_STEP_VOXELS = 0.3

#: Least eigenvalue of a Hessian, as a share of the largest.
MIN_EIGENVALUE_SHARE = 1e-3

# --- poses next door (`_engine.neighbourhood`) --------------------------------------

#: Voxels in the foreground's RMS radius, and in the foreground, where an image is
#: compared with itself.
REPEATS_RADIUS_VOXELS, REPEATS_VOXELS = 7, 100

#: Correlation of an image with itself, shifted, from which it repeats; the share of the
#: foreground that must overlap; the longest such shift, in RMS radii; and the most of
#: them, each of which goes both ways. The vertebrae of a neck correlate by 0.2.
REPEATS_ALIKE, REPEATS_OVERLAP, REPEATS_RADII, REPEATS = 0.1, 0.3, 1.2, 2

#: Share of what the best pose explains, at a coarse level, from which a twin of it is
#: followed to the finest.
TWIN_SHARE = 0.8

#: Evaluations at the coarse level after which a twin is judged.
TWIN_EVALUATIONS = 8

#: Standard error, in voxels, between which a better maximum is looked for within it:
#: the similarity is flat there, and its ripples are maxima, too; beyond, none is near.
#: How many of those found with few samples are followed with all, and how many times
#: this is done at most.
SETTLING_VOXELS, SETTLING_FITS, SETTLING = (0.2, 2.0), 3, 2

# --- evidence for a pose (`_engine.evidence`) -----------------------------------------

#: Most poses of a channel, all different, that are weighed against each other in doubt.
EVIDENCE_FITS = 4

#: How far headers are off: share of pairs, and standard deviation (mm) along each of
#: six coordinates. Scans of one session are a few mm off, as the patient moves; those
#: of two sessions lie as the patient was laid and the slices were angled. An
#: assumption: no survey is known. Of 22 real pairs with a
#: reference those of one session were 0 to 6 mm off, those of two sessions 10 to 11 mm
#: (one patient) and 67 to 72 mm (another).
HEADER_ERRORS = ((0.6, 2.5), (0.3, 30.0))

#: The share of pairs whose headers say nothing, an assumption as well, and the radius
#: (mm) within which their poses then lie, in any orientation.
ANYWHERE_SHARE, ANYWHERE_MM = 0.1, 150.0

#: Voxels between the poses whose gradients tell how many samples are independent: the
#: fewest count, since noise can make a flat maximum look sharp at one distance.
EVIDENCE_STEPS_VOXELS = (0.3, 1.0)

# --- the prior (`_prior`) -----------------------------------------------------------

#: Intervals of normalised intensity along each axis of a learned joint distribution.
PRIOR_INTERVALS = 64

# --- uncertainty and verdict (`_engine.uncertainty`, `_engine.verdict`) -------------

#: Runs of neighbouring samples whose gradients tell how much noise there is.
NOISE_RUNS = 200

#: Standard error, in voxels, above which the other image is sampled as well, and the
#: share of it below which that answer is taken. PET and SPECT gain by it (0.77 or
#: less), other kinds do not (0.77 or more, mostly above 0.85); 60 pairs of all kinds.
#: Ablation: other image.
OTHER_SAMPLING_VOXELS, OTHER_SAMPLING_GAIN = 0.08, 0.8

#: Voxels between the two answers up to which they are the same one.
OTHER_SAMPLING_APART_VOXELS = 1.0

#: Standard error, in voxels, above which noise can have made the answer. Right answers
#: of 208 pairs of all kinds, seeds 0 to 7, had 0.20 at most; the four wrong ones of the
#: ablation 4 or more. Not settled between: `scripts/evaluate.py --split` is for that.
UNCERTAIN_VOXELS = 0.5

#: Voxels from the headers' pose within which an answer must beat it by BIC.
#: Ablation: model choice.
MODEL_CHOICE_VOXELS = 0.1

#: An answer is right within one voxel of the coarser image, but this many mm at least,
#: or as many RMS radii of the anatomy where that is less: that of a mouse is 5 mm.
TOLERANCE_MM, TOLERANCE_RADII = 2.0, 0.1

#: An answer is doubtful where it is less likely right than this. Study of verdicts, the
#: half to choose on, kinds as they stand: of 535 wrong answers 8 pass at 0.5, 3 at 0.7,
#: one at 0.75; of 211 right ones none is doubted at any of these, and one at 0.8.
DOUBTFUL_BELOW = 0.75

#: Log-odds of an answer against a runner-up that explains nothing; they fall in
#: proportion to what it does, to even odds where it explains as much. An assumption.
RUNNER_UP_SLOPE = 20.0

#: Share of the anatomy of which it is as if half of it fitted, beside that which tells:
#: where next to none does, all or none of it fit by chance.
RESIDUALS_TOLD = 0.03

#: How rare mirrored images are; handedness is said where the images tell it, at even
#: odds, with this probability.
MIRRORED_PRIOR, MIRRORED_ABOVE = 0.01, 0.95

#: An image is called mirrored only where poses turned at random explain less than this
#: share. Study of verdicts, half to choose on: of 258 mirrored images 179 are called so
#: and of 785 other wrong answers 9; without it 190 and 64.
MIRRORED_SHARE = 0.7

#: A signal is a reason where it takes this from the log-odds of a right answer; so many
#: reasons are said at most.
REASON_LOG_ODDS, MOST_REASONS = 0.7, 3

# --- local residuals (`_engine.residuals`) ------------------------------------------

#: Blocks in the volume of the foreground, about: 5 along each side of a cube. Those at
#: its border, which hold part of it, come on top.
RESIDUAL_BLOCKS = 60

#: Cells along the side of a block, of which each other one is in the same half: 13 mm
#: for a head, more than noise reaches.
RESIDUAL_CELLS = 2

#: Most samples that are shifted, about: each is read at hundreds of shifts.
RESIDUAL_SAMPLES = 40_000

#: Fewest samples of a block that are inside at every shift.
RESIDUAL_FEWEST = 100

#: How far blocks are shifted along each axis, both ways, in voxels of the coarser
#: image; the most voxels of the interpolated image; and the share (one in so many) of
#: its voxels along an axis that this may be.
RESIDUAL_REACH_VOXELS, RESIDUAL_MOST_REACH, RESIDUAL_REACH_SHARE = 4.0, 4, 8

#: Share of what independence expects in each cell of the joint histogram that is added
#: to it: no intensity is impossible, and none costs more than log 100 nats.
RESIDUAL_INDEPENDENCE = 0.01

#: Standard error of a shift, in voxels of the coarser image, above which a block does
#: not tell where it fits.
RESIDUAL_WORST_ERROR_VOXELS = 1.0

#: Nats, over the dispersion, by which the best shift must lead all those more than so
#: many voxels away: of hundreds of shifts some are high by chance.
RESIDUAL_LEAD, RESIDUAL_NEAR = 10.0, 2

#: Standard errors that a block must be off by to be clearly off; and how far apart, in
#: blocks, the centres of two that are neighbours may be: across an edge of a cube.
RESIDUAL_CLEAR, RESIDUAL_NEIGHBOURS = 3.0, 1.5

# --- left and right (`_engine.handedness`) ------------------------------------------

#: Points, at most about, by which an image is compared with its mirror image; planes
#: that are tried, and times that the comparison is made for each.
MID_PLANE_POINTS, MID_PLANES, MID_PLANE_EVALUATIONS = 1500, 2, 60

#: Standard errors by which one handedness must explain more than the other, and the
#: share of the information of the one that the other must stay below. Of 16 kinds of
#: phantoms to choose on, one each, the mirror image had 0.22 to 0.69 (9 to 75 standard
#: errors); at a wrong pose, of two people's heads and of symmetric templates 0.99 to
#: 1.03 (3 or less).
HANDEDNESS_Z, HANDEDNESS_SHARE = 3.0, 0.9

# --- signals of a verdict (`_engine.signals`) ---------------------------------------

#: Samples, at least, that show what a small move costs and which handedness it is.
EVIDENCE_SAMPLES = 20_000

#: Wrong poses, turned evenly about the centroid, that information is compared with; and
#: the angle (rad) to the answer below which one is not wrong enough.
WRONG_POSES, WRONG_ANGLE = 64, 0.5

# --- sessions (`_pose_graph`, `_session`) -------------------------------------------

#: Rounds in which transforms that do not fit are left out and the rest solved again.
GRAPH_ROUNDS = 10

#: Standard deviation that every transform has at least, mm: of rounding.
GRAPH_LEAST_MM = 0.01

#: A transform is left out if its residual is this many times what noise and the other
#: residuals explain, and more than GRAPH_LEAST_VOXELS voxels of the coarser image.
GRAPH_OUTLIER, GRAPH_LEAST_VOXELS = 4.0, 0.5

#: An image does not belong where more than this share of its transforms were left out,
#: or likely wrong, or where its pairs are less likely than this of the same anatomy, in
#: the median; it may bend or move where its residuals are so many times those of the
#: others and what noise explains.
STRANGER_SHARE, STRANGER_SAME, BENDING_RATIO = 0.5, 0.8, 3.0

# --- series (`_engine.series`, `_series`) --------------------------------------------

#: Voxels of the refined reference for each of its own, along each axis. A phantom of
#: BOLD at 3 mm: error 0.14 mm with 1, 0.02 mm with 2.
SERIES_REFINEMENT = 2

#: How far the gain of a volume against the reference is smooth, mm; sides of the blocks
#: on which it is estimated; how much of the reference counts for the overall gain, as a
#: share of the most there is; and the least gain, as a share of the overall one.
SERIES_GAIN_MM, SERIES_GAIN_BLOCK_MM = 15.0, 6.0
SERIES_GAIN_PRIOR, SERIES_GAIN_LEAST = 0.01, 0.02

#: How many times as much must be explained with gains as without. In phantoms 1.18
#: where slices recover, and the error is 0.22 mm for 0.65; 1.03 and less where tissues
#: change. In a real ASL series with background suppression 1.15.
SERIES_GAIN_WORTH = 1.1

#: Length of a step, in voxels, below which a volume's pose has converged. A phantom of
#: BOLD: the error is that of a tenth of it, in half as many evaluations.
SERIES_TOLERANCE = 0.02

#: Samples of a volume in the first pass, at most, and of those that tell the curvature
#: of the maximum. Twice as many in the first changed the median error of no phantom by
#: a hundredth of a millimetre.
SERIES_FIRST_SAMPLES, SERIES_CURVATURE_SAMPLES = 20_000, 15_000

#: Voxels looked at to learn the intensity scale of a volume, at most. Four times as
#: many changed the median error of no phantom by a hundredth of a millimetre.
SERIES_SCALE_VOXELS = 60_000

#: Volumes that are followed side by side, from the pose of the last one before them. A
#: fixed number, so that the answer does not depend on the number of threads.
SERIES_BLOCK = 16

#: Most volumes, spread evenly, whose mean is the reference of the second pass: more
#: leave next to no less noise. And those by which it is compared with the first one.
SERIES_MEAN_VOLUMES, SERIES_COMPARED_VOLUMES = 32, 6

#: A volume that explains less than this share of what any volume before it did is lost,
#: or of another contrast: every orientation is searched.
SERIES_LOST_SHARE = 0.5

#: Radius, mm, of the sphere over which Jenkinson's deviation is taken, as in FSL.
RMS_RADIUS_MM = 80.0

#: Most voxels whose course over time is kept, for the spread over time and the carpet.
CARPET_VOXELS = 4000
