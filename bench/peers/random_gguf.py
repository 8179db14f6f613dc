"""A GGUF file of Llama-2-7B's shape, or another, with random weights in Q4_0: for memory and speed, not for text.

Needs the package gguf. The file has no vocabulary, so that only token ids go through it.
"""

import argparse
import pathlib

import gguf
import numpy

BLOCK = 32


def blocks(generator: numpy.random.Generator, rows: int, columns: int) -> numpy.ndarray:
    """Rows in Q4_0 whose values deviate by about 0.02 from zero: codes are even, and deviate by 4.6."""
    made = generator.integers(0, 256, (rows, columns // BLOCK, 18), dtype=numpy.uint8)
    made[:, :, :2] = numpy.frombuffer(numpy.float16(0.02 / 4.6).tobytes(), numpy.uint8)
    return made.reshape(rows, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", default="32x4096x32:32x11008x32000",
                        help="LAYERSxHIDDENxHEADS:KV_HEADSxINTERMEDIATExVOCABULARY; Llama-2-7B's if absent")
    args = parser.parse_args()
    head, tail = args.shape.split(":")
    layers, hidden, heads = map(int, head.split("x"))
    kv_heads, intermediate, vocabulary = map(int, tail.split("x"))
    kv = hidden // heads * kv_heads

    generator = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(args.out, "llama", use_temp_file=False)
    writer.add_context_length(4096)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(vocabulary)
    shapes = {"token_embd": (vocabulary, hidden)}
    for layer in range(layers):
        for name, shape in {"attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
                            "attn_output": (hidden, hidden), "ffn_gate": (intermediate, hidden),
                            "ffn_up": (intermediate, hidden), "ffn_down": (hidden, intermediate)}.items():
            shapes[f"blk.{layer}.{name}"] = shape
        shapes[f"blk.{layer}.attn_norm"] = shapes[f"blk.{layer}.ffn_norm"] = (hidden,)
    shapes |= {"output_norm": (hidden,), "output": (vocabulary, hidden)}
    for name, shape in shapes.items():
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", numpy.ones(shape, numpy.float32))
        else:
            writer.add_tensor(f"{name}.weight", blocks(generator, *shape),
                              raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
