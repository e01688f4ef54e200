#!/usr/bin/env python3
"""make.py - makes the SentencePiece models of this folder and their cases with Debian's spm_train, spm_encode and spm_decode
(package sentencepiece). Run it in the repository's root:  python3 tests/spm/make.py

Models are kept without their charsmap, which is 240 KB each: nmt_nfkc.charsmap has it once, and a model NAME is NAME.model
and, where NAME contains "nfkc", a normalizer_spec with that charsmap behind it (protobuf merges repeated messages).
cases.jsonl: {"text": ..., "NAME": [ids], "NAME decoded": text} for each model; what spm_decode gives is left out where it is
the text itself. Texts hold no newline and no U+0000: spm_encode reads lines."""
import json, os, random, subprocess, sys, tempfile

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
user = '--user_defined_symbols=<start_of_turn>,<end_of_turn>,▁▁,<b>,ing,C++'
models = {
    'unigram_nfkc': ['--model_type=unigram', '--vocab_size=600', '--character_coverage=0.98', '--control_symbols=<ctl>,<q>', user],
    'unigram_nfkc_bytes': ['--model_type=unigram', '--vocab_size=700', '--byte_fallback', '--character_coverage=0.98'],
    'unigram_nfkc_suffix': ['--model_type=unigram', '--vocab_size=500', '--treat_whitespace_as_suffix', '--character_coverage=0.98', user],
    'unigram_plain': ['--model_type=unigram', '--vocab_size=700', '--byte_fallback', '--normalization_rule_name=identity',
                      '--add_dummy_prefix=false', '--remove_extra_whitespaces=false', '--split_digits', user,
                      '--pad_id=0', '--eos_id=1', '--bos_id=2', '--unk_id=3', '--character_coverage=0.98'],
    'unigram_phrases': ['--model_type=unigram', '--vocab_size=500', '--normalization_rule_name=identity', '--split_by_whitespace=false',
                        '--split_by_unicode_script=false', '--split_by_number=false', '--unk_surface= [?] ', '--character_coverage=0.98'],
    'unigram_rules': ['--model_type=unigram', '--vocab_size=400', '--normalization_rule_tsv=RULES', '--character_coverage=0.98'],
    'unigram_noescape': ['--model_type=unigram', '--vocab_size=400', '--normalization_rule_name=identity', '--character_coverage=0.98'],
    'unigram_denormal': ['--model_type=unigram', '--vocab_size=400', '--byte_fallback', '--normalization_rule_tsv=RULES',
                         '--denormalization_rule_tsv=BACK', '--character_coverage=0.98'],
    'word_nfkc': ['--model_type=word', '--vocab_size=500', user],
    'word_plain': ['--model_type=word', '--vocab_size=700', '--byte_fallback', '--normalization_rule_name=identity',
                   '--add_dummy_prefix=false', '--remove_extra_whitespaces=false', user],
    'char_nfkc': ['--model_type=char', '--vocab_size=120', user],
    'char_plain': ['--model_type=char', '--vocab_size=400', '--byte_fallback', '--normalization_rule_name=identity',
                   '--add_dummy_prefix=false', '--remove_extra_whitespaces=false', user],
    'bpe_denormal': ['--model_type=bpe', '--vocab_size=400', '--normalization_rule_name=identity', '--add_dummy_prefix=false',
                     '--denormalization_rule_tsv=BACK', '--character_coverage=0.98'],
    'bpe_nfkc_suffix': ['--model_type=bpe', '--vocab_size=500', '--treat_whitespace_as_suffix', '--character_coverage=0.98', user],
}

edges = ['', ' ', '  ', '   ', 'a', ' a', 'a ', '  a  b  ', '▁', '▁▁', 'a▁b', '▁ a', ' ▁▁ ', '▁▁▁', '<s>', '</s>', '<unk>', '<ctl>', '<ctl>a',
         '<q><q>', '<start_of_turn>', 'a<end_of_turn>b', '<start_of_turn>user <end_of_turn>', 'C++ and C', 'x<b>y</b>', 'singing ringing', 'inging', '<0x41>',
         '<0x41> <0x0A>', '\t', 'a\tb', 'ﬁne ﬂy', 'Ａｂｃ　Ｄｅ', '㍿', '\ufdfa', 'e\u0301', 'ẛ̣', '한국어', '각', '①②③', '½', 'ｶﾞ', '\u00ad', 'a\u200bb', '\ufeffx',
         '\u00a0a\u3000b', '日本語のテキスト', '😀👍🏽', 'naïve café', 'русский текст', 'ไทย', 'हिन्दी', 'zzzzzzzz', 'qqq xxq', '𝕬𝖇𝖈', '\U0001f9ff', '��', '....', '------', '====',
         '1234567890', '3.14159', 'a' * 60, 'ab' * 30, 'the ' * 12, 'thethethe', '\u0301', 'a\u0300\u0301\u0302', 'İI', 'ß', 'Σς', '"quoted" (text)', "don't",
         'http://example.org/a?b=c&d=%20', 'for (i = 0; i < n; i++) x[i] += 1;', '{"key": [1, 2.5, null]}', 'x\u2028y', 'tea tree oil', 'oil', 'replace me', 'aab', 'bba ab']


def field(number, data):
    out, n = bytearray([number << 3 | 2]), len(data)
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n]) + data


def fields(data):
    at = 0
    while at < len(data):
        begin, tag, shift = at, 0, 0
        while True:
            tag |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        if tag & 7 == 2:
            n, shift = 0, 0
            while True:
                n |= (data[at] & 127) << shift
                shift += 7
                at += 1
                if data[at - 1] < 128:
                    break
            yield tag >> 3, data[at:at + n], data[begin:at + n]
            at += n
        else:
            value = at
            if tag & 7 == 0:
                while data[at] > 127:
                    at += 1
                at += 1
            else:
                at += 8 if tag & 7 == 1 else 4
            yield tag >> 3, data[value:at], data[begin:at]


def run(command, lines=None, may_fail=False):
    p = subprocess.run(command, input=None if lines is None else ('\n'.join(lines) + '\n').encode(), stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    if p.returncode and may_fail:
        return [None]
    if p.returncode:
        sys.exit('%s: %s' % (command, p.stderr.decode()[-400:]))
    return p.stdout.decode().split('\n')[:-1]


def main():
    texts = []
    for line in open(os.path.join(root, 'tests/tokenizer_cases.jsonl'), encoding='utf-8'):
        case = json.loads(line)
        if list(case)[0] == 'text' and len(case['text'].encode()) < 120 and '\n' not in case['text'] and '\0' not in case['text'] and '\r' not in case['text']:
            texts.append(case['text'])
    random.seed(5)
    corpus = [json.loads(line)['text'] for line in open(os.path.join(root, 'examples/tiny/eval/corpus.jsonl'), encoding='utf-8')][:1500]
    with tempfile.TemporaryDirectory() as tmp:
        rules = os.path.join(tmp, 'rules.tsv')
        with open(rules, 'w') as f:
            f.write('61 61\t62\n62 62 61\t63 63 63 63\n72 65 70\t\n4F\t30 30\nE9\t65 301\n20 20 20\t78 20\n')
        back = os.path.join(tmp, 'back.tsv')                 # longer, shorter, nothing, across pieces, a space, beyond ASCII
        with open(back, 'w') as f:
            f.write('65\t45\n74 68 65\t64 65 72 20 64 69 65 20 64 61 73\n71\t\n20 61 20\t20\n2E 2E 2E\t2026\nE4\t61 308\n20 78\t5F\n')
        open(os.path.join(tmp, 'corpus'), 'w').write('\n'.join(corpus + texts * 8) + '\n')
        cases = [{'text': t} for t in dict.fromkeys(edges + random.sample(texts, min(60, len(texts))))]
        lines = [c['text'] for c in cases]
        charsmap = b''
        for name, options in models.items():
            prefix = os.path.join(tmp, name)
            run(['spm_train', '--input=' + os.path.join(tmp, 'corpus'), '--model_prefix=' + prefix, '--minloglevel=2', '--num_threads=1',
                 '--hard_vocab_limit=false'] + [o.replace('RULES', rules).replace('BACK', back) for o in options])
            data = open(prefix + '.model', 'rb').read()
            if name == 'unigram_noescape':
                data += field(3, b'\x28\x00')                # normalizer_spec.escape_whitespaces = false
            kept = b''
            for number, body, raw in fields(data):
                if number in (3, 5):
                    one = b''
                    for inner, value, whole in fields(body):
                        if inner == 2 and 'nfkc' in name:
                            charsmap = value
                        elif inner != 6:                     # the paths of this machine stay here
                            one += whole
                    raw = field(number, one)
                if number == 2:                              # so do those of the trainer
                    raw = field(2, b''.join(w for n, _, w in fields(body) if n in (3, 24, 35, 44)))
                if number != 4:                              # self_test_data
                    kept += raw
            open(os.path.join(here, name + '.model'), 'wb').write(kept)
            whole = kept + (field(3, field(2, charsmap)) if 'nfkc' in name else b'')
            open(prefix + '.model', 'wb').write(whole)
            encode = ['spm_encode', '--model=' + prefix + '.model', '--output_format=id']
            if name == 'word_plain':                         # a text that is a control symbol's name ends spm_encode
                ids = [run(encode, [line], True)[0] for line in lines]
            else:
                ids = run(encode, lines)
            decoded = run(['spm_decode', '--model=' + prefix + '.model', '--input_format=id'], [i or '' for i in ids])
            assert len(ids) == len(lines) == len(decoded), name
            for c, i, d in zip(cases, ids, decoded):
                if i is None:
                    continue
                c[name] = [int(x) for x in i.split()]
                if d != c['text']:
                    c[name + ' decoded'] = d
        open(os.path.join(here, 'nmt_nfkc.charsmap'), 'wb').write(charsmap)
        with open(os.path.join(here, 'cases.jsonl'), 'w', encoding='utf-8') as f:
            for c in cases:
                f.write(json.dumps(c, ensure_ascii=True, separators=(',', ':')) + '\n')


main()
