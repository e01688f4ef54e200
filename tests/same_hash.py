#!/usr/bin/env python3
"""same_hash.py ONE OTHER [LENGTH] - two texts with the same kalm__hash (src/base.h), which has no key: a line each. The first begins with ONE, the
other with OTHER; both have LENGTH bytes, a multiple of 64 (default: the least that there is room in). So tests can see that nothing takes the one
for the other."""
import struct
import sys

MASK, A, B = 2**64 - 1, 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f
LETTERS = b"abcdefghijklmnopqrstuvwxyz"
PLAIN = frozenset(range(0x21, 0x7f)) - frozenset(b"\"\\<>&/%'$`#")       # the same in JSON, HTML, a shell and a name


def mix(lane, word):
    x = (lane ^ word) * A & MASK
    return x ^ x >> 29


def unmix(lane, mixed):
    """The word that makes `mixed` of `lane`."""
    x = mixed
    for _ in range(3):
        x = mixed ^ x >> 29
    return x * pow(A, -1, 2**64) & MASK ^ lane


def lanes_of(data, size):
    """What the words of `data` make of the lanes, and the sum of lanes 0 to 5 of a text of `size` bytes; data lacks the last two words."""
    lanes = [(i + 1) * A & MASK for i in range(8)]
    for i, (word,) in enumerate(struct.iter_unpack("<Q", data)):
        lanes[i % 8] = mix(lanes[i % 8], word)
    total = size * B & MASK
    for lane in lanes[:6]:
        total = mix(total, lane) * B & MASK
    return lanes, total


def same_hash(one, other, size=0):
    size = size or (max(len(one), len(other)) + 16 + 63) // 64 * 64
    one, other = one + b"." * (size - len(one)), other + b"." * (size - 16 - len(other))
    lanes, total = lanes_of(one[:-16], size)
    six, seven = struct.unpack("<QQ", one[-16:])
    wanted = (mix(total, mix(lanes[6], six)) * B & MASK) ^ mix(lanes[7], seven)
    lanes, total = lanes_of(other, size)
    for n in range(26**4):             # one of three thousand has a last word that is plain text
        word = bytes([*b"....", *(LETTERS[n // 26**k % 26] for k in range(4))])
        before = mix(total, mix(lanes[6], *struct.unpack("<Q", word))) * B & MASK
        last = struct.pack("<Q", unmix(lanes[7], wanted ^ before))
        if PLAIN.issuperset(last):
            return one, other + word + last
    sys.exit("same_hash.py: no such text")


if __name__ == "__main__":
    for text in same_hash(*(word.encode() for word in sys.argv[1:3]), *(int(word) for word in sys.argv[3:4])):
        print(text.decode())
