"""Llama 3's tiktoken vocabulary as the files that transformers reads: `tokenizer.json`, its settings, a chat template.

tiktoken's file has ranks and no merges. The pair that a token is merged of is what is left when its bytes are merged by
all lower ranks; that is two pieces, because tiktoken itself gets to the token that way.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsight.errors import CheckpointError
from midsight.files import atomic_write
from midsight.plm.chat import SYSTEM
from midsight.plm.tokenizer import FIRST_SPECIAL, PIECES

BOS, END, IMAGE, VIDEO, EOT = (FIRST_SPECIAL[i] for i in (0, 1, 2, 3, 9))
TEMPLATE = """{{- bos_token }}
{%- if messages[0]['role'] != 'system' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- SYSTEM }}
{{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{%- if message['content'] is string %}
{{- message['content'] }}
{%- else %}
{%- for part in message['content'] if part['type'] == 'image' %}{{- 'IMAGE' }}{%- endfor %}
{%- for part in message['content'] if part['type'] == 'video' %}{{- 'VIDEO' }}{%- endfor %}
{%- for part in message['content'] if part['type'] == 'text' %}{{- part['text'] }}{%- endfor %}
{%- endif %}
{{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def write(folder: Path, ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]) -> None:
    """Puts the files into a folder.

    Raises:
        CheckpointError: a token that no two others make.
    """
    with atomic_write(folder / "tokenizer.json") as file:
        file.write(backend(ranks, special_tokens).to_str(pretty=True).encode())
    settings = dict(
        tokenizer_class="PreTrainedTokenizerFast", processor_class="PerceptionLMProcessor", bos_token=BOS,
        eos_token=EOT, pad_token=END, image_token=IMAGE, video_token=VIDEO, clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE, "video_token": VIDEO},
    )  # fmt: skip
    with atomic_write(folder / "tokenizer_config.json") as file:
        file.write(json.dumps(settings, indent=2).encode())
    with atomic_write(folder / "chat_template.jinja") as file:
        file.write(chat_template().encode())


def chat_template() -> str:
    """PerceptionLM's style of conversation: media first in a message, a fixed system message where none is given."""
    return TEMPLATE.replace("SYSTEM", json.dumps(SYSTEM)).replace("IMAGE", IMAGE).replace("VIDEO", VIDEO)


def backend(ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]) -> Any:
    """The tokenizer of the tokenizers library with the same ids."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    chars = byte_chars()

    def spelt(token: bytes) -> str:
        return "".join(chars[byte] for byte in token)

    vocabulary = {spelt(token): rank for token, rank in ranks.items()}
    merges = [(spelt(left), spelt(right)) for left, right in merges_of(ranks)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    names = sorted(special_tokens, key=special_tokens.__getitem__)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, special_tokens[BOS])]
    )
    return tokenizer


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair of each token of several bytes, by rank.

    Raises:
        CheckpointError: a token that lower ranks do not merge to two pieces.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
        if len(token) == 1:
            continue
        parts = merged(token, ranks, below=rank)
        if len(parts) != 2:
            raise CheckpointError(
                f"token {token!r} of rank {rank} is made of {len(parts)} pieces of lower rank, expected 2: the "
                "vocabulary is no byte-pair encoding"
            )
        merges.append((parts[0], parts[1]))
    return merges


def merged(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """The bytes merged as long as a pair has a rank under `below`, the lowest first."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        found = [ranks.get(left + right, below) for left, right in zip(parts, parts[1:], strict=False)]
        best = min(found)
        if best >= below:
            break
        at = found.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def byte_chars() -> list[str]:
    """The visible character that byte-level vocabularies write for each byte (published with GPT-2)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]
