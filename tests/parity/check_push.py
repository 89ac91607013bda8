"""What a folder of `openclip push --dry-run --bin` holds, seen with Python's eyes.

  openclip push --model M --pretrained W --repo-id me/m --dry-run --bin --output DIR
  check_push.py DIR

The weights come from `torch.load(weights_only=True)`, also mapped, and from safetensors, equal to the bit; the model loads as `local-dir:DIR`;
the tokenizer's files give transformers' tokenizer OpenCLIP's ids. Features are compared by check_roundtrip.py.
Needs `pip install open_clip_torch==3.3.0 transformers`.
"""

import sys
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

CAPTIONS = ["a photo of a cat", "It's the DOG's 2nd  birthday!!", "naïve café – Ωμέγα, 日本語 🙂", ""]


def main():
    folder = Path(sys.argv[1])
    tensors = load_file(folder / "open_clip_model.safetensors")
    for mapped in (False, True):
        pickle = torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True, mmap=mapped)
        assert type(pickle) is dict and pickle.keys() == tensors.keys()
        for key, tensor in tensors.items():
            other = pickle[key]
            assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape), key
            assert torch.equal(other, tensor) and other.is_contiguous(), key
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    assert model.state_dict().keys() >= tensors.keys() - {"logit_bias"}
    own = open_clip.get_tokenizer(f"local-dir:{folder}")
    if isinstance(own, open_clip.tokenizer.SimpleTokenizer):
        theirs = AutoTokenizer.from_pretrained(folder)
        for caption in CAPTIONS:
            ids = theirs(caption)["input_ids"]
            wanted = own([caption])[0].tolist()
            assert wanted[: len(ids)] == ids and set(wanted[len(ids) :]) <= {0}, caption
        print(f"{type(theirs).__name__}: {len(CAPTIONS)} captions")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "library_name: open_clip" in card
    print(f"{folder}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
