"""Names and meanings of metrics."""

from typing import NamedTuple

BETTER = {
    "frechet_distance": "lower",
    "memorization_informed_frechet_distance": "lower; its tau is Inception's",
    "frechet_distance_infinity": "lower",
    "kernel_distance": "lower",
    "inception_score": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "expected_coverage": "the ceiling",
    "sliced_wasserstein_distance": "lower",
    "vendi_score": "higher",
    "path_length_z_full": "lower",
    "path_length_z_end": "lower",
    "path_length_w_full": "lower; in w than in z",
    "path_length_w_end": "lower; in w than in z",
    "separability_z": "lower; 1 at best",
    "separability_w": "lower; in w than in z",
    "copy_rate": "0",
    "copies_at_least": "0",
    "copies_flagged": "0",
    "items_copied": "0",
    "longest_copy": "as in held-out text",
    "copies_found": "0",
    "copied_share": "as in held-out text",
    "novel_10grams": "as in held-out text",
    "self_bleu": "as in held-out text",
    "permutation_p": "not near 0",
    "closer_to_train": "0.5 is fair",
    "data_copying_ct": "not far below 0",
    "fld_gap": "not far below 0",
    "authenticity": "higher",
}


class Words(NamedTuple):
    """A metric's name and meaning for people; a share is shown in per cent."""

    title: str
    meaning: str
    share: bool = False
    better: str = ""


WORDS = {
    "frechet_distance": Words(
        "Fréchet distance",
        "Between Gaussians fitted to the features of samples and training images; falls with more"
        " samples, so compare equal numbers only.",
    ),
    "memorization_informed_frechet_distance": Words(
        "Memorization-informed Fréchet distance",
        "The Fréchet distance, made larger where samples lie very close to training images.",
    ),
    "frechet_distance_infinity": Words(
        "Fréchet distance at infinity",
        "Extrapolated to infinitely many samples, so that different numbers can be compared.",
    ),
    "kernel_distance": Words(
        "Kernel distance",
        "Squared maximum mean discrepancy with a cubic kernel; unbiased, so it can fall below 0.",
    ),
    "inception_score": Words(
        "Inception score", "Samples of one clear class each, of all classes together."
    ),
    "precision": Words("Precision", "Samples that look like some training image.", True),
    "recall": Words("Recall", "Training images that look like some sample.", True),
    "density": Words(
        "Density", "How densely samples lie among training images; 1 for training data itself."
    ),
    "coverage": Words("Coverage", "Training images with a sample in their neighbourhood.", True),
    "vendi_score": Words(
        "Vendi score", "How many entirely different images the samples are worth."
    ),
    "closer_to_train": Words(
        "Closer to training",
        "Samples nearer to training than to held-out images, equally many of each; copying lifts it"
        " above 50%.",
        True,
    ),
    "copy_rate": Words(
        "Copy rate",
        "Samples far nearer to one training item than to others, beyond what chance gives; of text,"
        " passages with 50 characters in a row from it.",
        True,
    ),
    "copies_at_least": Words(
        "Copies at least",
        "With 95% confidence so many samples owe their nearest item to training, faint copies too.",
        True,
    ),
    "copies_flagged": Words("Copies flagged", "Samples named as copies, one by one."),
    "items_copied": Words(
        "Items copied", "Training items that draw more samples than held-out items do by chance."
    ),
    "expected_coverage": Words(
        "Coverage of equals", "What samples as good as the training images would reach.", True
    ),
    "sliced_wasserstein_distance": Words(
        "Sliced Wasserstein distance", "Mean distance between the sets along random directions."
    ),
    "longest_copy": Words(
        "Longest copy", "Characters of the longest passage that the training text has too."
    ),
    "longest_copy_heldout": Words(
        "Longest copy in held-out text", "The same of held-out text: what chance gives."
    ),
    "copies_found": Words("Copies found", "Passages of 50 characters or more, chance included."),
    "copied_share": Words(
        "Copied share", "Characters inside passages of 50 or more that training text has.", True
    ),
    "copied_share_heldout": Words("Copied share of held-out text", "What chance gives.", True),
    "novel_10grams": Words(
        "New 10-grams", "Ten characters in a row that training text has nowhere.", True
    ),
    "novel_10grams_heldout": Words("New 10-grams of held-out text", "What chance gives.", True),
    "self_bleu": Words(
        "Self-BLEU", "How like each passage of 100 words is to the others; 1 repeats itself."
    ),
    "self_bleu_heldout": Words("Self-BLEU of held-out text", "From as many words."),
    "distinct_2": Words("Distinct word pairs", "Of all pairs of words in a row.", True),
    "distinct_2_heldout": Words("Distinct word pairs of held-out text", "", True),
    "distinct_3": Words("Distinct word triples", "Of all three words in a row.", True),
    "distinct_3_heldout": Words("Distinct word triples of held-out text", "", True),
    "permutation_p": Words(
        "Permutation p",
        "How often a random split into training and held-out items looks as suspicious; small"
        " means copying.",
    ),
    "authenticity": Words(
        "Authenticity",
        "Samples farther from their nearest training image than that is from its own neighbour;"
        " not calibrated by held-out images.",
        True,
    ),
    "data_copying_ct": Words(
        "Data-copying C_T",
        "Rank test of distances to training, samples against held-out images; far below 0 means"
        " copying or samples that are too typical.",
    ),
    "fld_gap": Words(
        "FLD gap",
        "Likelihood of training less that of held-out images under the samples; below 0 means"
        " overfitting.",
    ),
}


def words(metric: str) -> Words:
    """A metric's words; one that is unknown goes by its own name."""
    known = WORDS.get(metric) or Words(metric.replace("_", " ").capitalize(), "")
    return known._replace(better=BETTER.get(metric, ""))
