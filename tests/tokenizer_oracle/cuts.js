// cuts.js TRUNCATION.jsonl - writes tests/cut_cases.jsonl: queries and documents cut to a number of tokens, and the ids that Hugging
// Face's tokenizers (see get.sh) give for the bundled model: of the query's beginning, of the whole prompt around it, and of the
// document's beginning. The file names queries, {"query": ...} a line. Run from the root of the repository.
const fs = require('fs'), path = require('path');
const { Tokenizer } = require(path.resolve('build/tokenizer/node_modules/tokenizers'));
const system = 'Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".';
const prompt = (query) => `<bos><start_of_turn>user\n${system}\n\n<Instruct>: Given a query, retrieve documents that answer the query.\n` +
    `<Query>: ${query}<end_of_turn>\n<start_of_turn>model\n\n\n\n`;
// [texts of a kind that are kept, limits]: few limits, since each wants a context of its own
const limits = [1, 2, 3, 5, 13, 38, 64];

(async () => {
    const oracle = Tokenizer.fromFile('examples/tiny/tokenizer.json');
    const ids = async (text) => (await oracle.encode(text, null, { addSpecialTokens: false })).getIds();
    const seen = {}, lines = [];
    let n = 0;
    for (const line of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
        const { query, kind } = JSON.parse(line);
        if ((seen[kind] = (seen[kind] || 0) + 1) > 8 || query.length > 400) continue;
        const whole = await ids(query), document = await ids('<Document>: ' + query);
        // a limit that cuts, where there is one; the number of tokens itself and its neighbours are the borders
        const most = limits[n++ % limits.length];
        const kept = whole.slice(0, most), text = await oracle.decode(kept, false);
        lines.push(JSON.stringify({ text: query, kind, most, tokens: whole.length, kept: text, prompt: await ids(prompt(text)),
            document_tokens: document.length, document: document.slice(0, most + 8) }));
    }
    fs.writeFileSync('tests/cut_cases.jsonl', lines.join('\n') + '\n');
    console.log(`${lines.length} cases`);
})();
