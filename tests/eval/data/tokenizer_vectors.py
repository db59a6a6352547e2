#!/usr/bin/env python3
"""Writes tokenizer_vectors.json: what Hugging Face's tokenizers make of texts, for tokenizer_test.cc, and how many
words lm-evaluation-harness counts in them, for documents_test.cc.

Needs `pip install tokenizers` (0.23.3 made the file). Each variant is the built-in tiny-tokenizer.json with a JSON merge
patch (RFC 7386) over it: GPT-2's, OPT's and Llama 3's ways of splitting, prefix spaces, templates, added tokens.

    python tests/eval/data/tokenizer_vectors.py configs/data/tiny-tokenizer.json > tests/eval/data/tokenizer_vectors.json
"""
import json
import random
import re
import sys

from tokenizers import Tokenizer

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts), "add_prefix_space": None, "trim_offsets": None,
            "use_regex": None}


def template(single, **ids):
    return {"type": "TemplateProcessing", "single": single, "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in ids.items()}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def special(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


def added(i, content, normalized=False):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized,
            "special": True}


OWN = [added(0, "<s>"), added(1, "<pad>"), added(2, "</s>"), added(3, "<unk>")]
VARIANTS = {
    "gpt2": {},
    "opt": {"post_processor": template([special("</s>"), TEXT], **{"</s>": 2})},
    "prefix-space": {"pre_tokenizer": {"add_prefix_space": True}},
    "llama3": {"pre_tokenizer": sequence(split(LLAMA3), BYTE_LEVEL), "model": {"ignore_merges": True},
               "post_processor": {"type": "Sequence", "processors": [
                   {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                   template([special("<s>"), TEXT, special("</s>")], **{"<s>": 0, "</s>": 2})]}},
    "removed": {"pre_tokenizer": sequence(split(r"\p{L}+|\d+|[^\s\p{L}\p{N}]+", "Removed", True), BYTE_LEVEL)},
    "digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True},
                                         {**BYTE_LEVEL, "use_regex": True})},
    "digit-runs": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False},
                                             {**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True})},
    "added": {"added_tokens": OWN + [added(2048, "<|a|>"), added(2049, "<|a|><|b|>"), added(2050, " the", True),
                                     added(2051, "ähm", True)]},
}

TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t\tx", "a", "The quick brown fox jumps over the lazy dog.",
    "I'm sure he'll say it's theirs; they've DON'T we'd you're o'clock 'tis ''", "I'M SURE HE'LL SAY IT'S",
    "ISN'\u017f it'\u017f \u212aelvin \u212b", "1234567890 12 3.14 1,000,000 2024-11-24", "\u2167 \u00b2\u00bd \u0661\u0662\u0663 x\u2081",
    "naïve café Über straße ŒUVRE ﬁ ﬂuß", "e\u0301a\u0308 n\u0303", "日本語のテキスト。中文字符", "한국어 Русский Ελληνικά עברית العربية हिन्दी ไทย",
    "🙂🙃 👩‍👩‍👧 🇩🇪 ✈️", "a\u00a0b\u00a0\u00a0c", "a\u180eb \u180e c", "a\u200bb\u2028c\u2029d\u3000e\u205ff\u1680g\u0085h",
    "line one\r\nline two\r\n\r\n  indented\n\ttabbed   \n", "trailing   ", "   leading", "many     spaces      here",
    "foo  bar\n\n\n baz\n   \n", "<s>text</s>", "a <unk> b<unk>c <pad>", "</s></s> </s>", "<s", "<<s>>", "x<|a|>y<|a|><|b|>z<|b|>",
    "of the ähm and the thähm", "the the  the", "!?.,;:-—…“”‘’«»()[]{}", "a_b __init__ x=y+z; // comment /* */ #!", "$5 €6 £7 50% x² ±1",
    "\u0000\u0001\u001f\u007f", "\ufeffbom", "= Title =\n\n Text @-@ text @,@ 1 @.@ 5 \n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "thethethethethethethethe", "hhhehehehthhthth", "a\u001cb\u001d\u001ec\u001f", "x" * 300, "ab" * 150, " " * 70 + "x", "\n" * 40,
]
ALPHABET = ("etaoin shrdlu\n" * 6 + "ETAOIN'.,!? \t\r0123456789-@" * 2 +
            "éüßñçøåłжшяλψשאعمहनक日本語中한국ไท½²Ⅷ٣\u00a0\u2028\u3000\u0301\u200d🙂👩𝒜𐍈€“”—")


def random_texts(n, seed=2026):
    rng = random.Random(seed)
    return ["".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 60))) for _ in range(n)]


def patched(value, patch):
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for key, inner in patch.items():
        if inner is None:
            value.pop(key, None)
        else:
            value[key] = patched(value.get(key), inner)
    return value


def main():
    base = json.load(open(sys.argv[1], encoding="utf-8"))
    texts = TEXTS + random_texts(40)
    words = [len(re.split(r"\s+", text)) for text in texts]
    print('{"texts": ' + json.dumps(texts) + ',\n "words": ' + json.dumps(words) + ',\n "variants": [')
    rows = []
    for name, patch in VARIANTS.items():
        tokenizer = Tokenizer.from_str(json.dumps(patched(base, patch)))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        around = tokenizer.encode("x", add_special_tokens=True).ids
        rows.append('{"name": ' + json.dumps(name) + ', "patch": ' + json.dumps(patch) + ',\n  "with_special_tokens": ' +
                    json.dumps(around) + ',\n  "ids": ' + json.dumps(ids, separators=(",", ":")) + "}")
    print(",\n".join(rows) + "\n]}")


if __name__ == "__main__":
    main()
