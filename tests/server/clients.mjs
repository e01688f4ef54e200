// clients.mjs BUILD - the clients that programs rerank with, as they come from npm (package.json has their versions), against
// kalm-server: results, errors, retries, timeouts. `bash .ci/clients` installs them and runs this; it ends with "N passed, N failed".
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual, inspect } from 'node:util';
import { CohereClient, CohereClientV2, CohereError } from 'cohere-ai';
import { CohereRerank } from '@langchain/cohere';
import { Document } from '@langchain/core/documents';
import { rerank } from 'ai';
import { createCohere } from '@ai-sdk/cohere';
import { VoyageAIClient } from 'voyageai';

const build = process.argv[2];
const model = join(build, 'tiny.kalm');
const folder = mkdtempSync(join(build, 'tmp', 'clients.'));
let passed = 0, failed = 0;
const equal = (a, b, what) => {
    if (isDeepStrictEqual(a, b)) passed++;
    else failed++, console.log(`FAILED: ${what}: ${inspect(a, { depth: 5 })} instead of ${inspect(b, { depth: 5 })}`);
};
const fails = async (what, call, good) => {
    try {
        await call();
        equal('no error', 'an error', what);
    } catch (e) {
        equal(good(e) || `${e.name} ${e.statusCode} ${e.message} ${inspect(e.body)}`, true, what);
    }
};

async function start(...options) {
    const child = spawn(join(build, 'kalm-server'), [model, '--port', '0', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout });
    const url = await new Promise(found => lines.once('line', line => found(JSON.parse(line).url)));
    return { url, end: () => new Promise(ended => { child.once('exit', ended); child.kill('SIGTERM'); }) };
}

const query = 'an editor for images';
const texts = ['GIMP edits pictures and retouches photos.', 'Stockfish is a strong chess engine.', 'Vim is an improved version of vi.',
    'ImageMagick converts images, and 画像 too \u{1f600}.'];
writeFileSync(join(folder, 'texts.jsonl'), texts.map(text => JSON.stringify({ text }) + '\n').join(''));
const want = JSON.parse(execFileSync(join(build, 'kalm-rerank'), [model, query, '--documents', join(folder, 'texts.jsonl'), '--json'])).results
    .map(r => ({ index: r.index, relevanceScore: r.score }));

const key = 'a-key-of-the-test';
writeFileSync(join(folder, 'keys'), key + '\n');
const server = await start('--api-key-file', join(folder, 'keys'), '--store', join(folder, 'store.db'), '--max-documents', '100');

// ---- cohere-ai ----
const bare = r => ({ index: r.index, relevanceScore: r.relevanceScore });
const one = new CohereClient({ token: key, environment: server.url });
const two = new CohereClientV2({ token: key, environment: server.url });
for (const base of [server.url, server.url + '/', server.url + '/v1']) {
    const client = new CohereClient({ token: key, environment: base });
    equal((await client.rerank({ query, documents: texts })).results.map(bare), want, `CohereClient at ${base}`);
    equal((await client.v2.rerank({ model: 'rerank-v3.5', query, documents: texts })).results.map(bare), want, `CohereClient.v2 at ${base}`);
}
let answer = await one.rerank({ model: 'rerank-english-v3.0', query, documents: texts.map(text => ({ text })), topN: 2, returnDocuments: true, maxChunksPerDoc: 10 });
equal(answer.results, want.slice(0, 2).map(r => ({ document: { text: texts[r.index] }, ...r })).map(r => ({ index: r.index, relevanceScore: r.relevanceScore, document: r.document })),
    'CohereClient: topN, returnDocuments, objects');
equal([typeof answer.id, answer.meta.apiVersion.version, answer.meta.billedUnits.searchUnits], ['string', '1', 1], 'CohereClient: meta');
answer = await one.rerank({ query, documents: texts.map((text, i) => ({ title: `t${i}`, body: text })), rankFields: ['body'], returnDocuments: true });
equal(answer.results.map(bare), want, 'CohereClient: rankFields');
equal(answer.results[0].document, { title: `t${want[0].index}`, body: texts[want[0].index] }, 'CohereClient: whole documents come back');
answer = await two.rerank({ model: 'rerank-v3.5', query, documents: texts, topN: 3, maxTokensPerDoc: 4096 });
equal(answer.results, want.slice(0, 3), 'CohereClientV2');
equal(answer.meta.apiVersion.version, '2', 'CohereClientV2: meta');
await fails('CohereClientV2: no documents', () => two.rerank({ model: 'm', query, documents: [] }),
    e => e instanceof CohereError && e.statusCode === 400 && /empty/.test(e.body.message));
await fails('CohereClientV2: too many', () => two.rerank({ model: 'm', query, documents: Array(101).fill('a') }), e => e.statusCode === 400 && /100/.test(e.body.message));
await fails('CohereClient: a wrong key', () => new CohereClient({ token: 'wrong', environment: server.url }).rerank({ query, documents: texts }),
    e => e.statusCode === 401 && /key/.test(e.body.message));
equal((await one.rerank({ query, documents: texts }, { timeoutInSeconds: 30, maxRetries: 0 })).results.length, 4, 'CohereClient: request options');

// ---- @langchain/cohere ----
const chain = new CohereRerank({ client: one, model: 'rerank-v3.5', topN: 3 });
equal(await chain.rerank(texts, query), want.slice(0, 3), 'CohereRerank.rerank');
equal(await chain.rerank(texts.map(pageContent => new Document({ pageContent })), query, { topN: 1 }), want.slice(0, 1), 'CohereRerank.rerank of documents');
equal((await chain.compressDocuments(texts.map((pageContent, i) => new Document({ pageContent, metadata: { i } })), query)).map(d => [d.pageContent, d.metadata]),
    want.slice(0, 3).map(r => [texts[r.index], { i: r.index, relevanceScore: r.relevanceScore }]), 'CohereRerank.compressDocuments');

// ---- ai, @ai-sdk/cohere ----
for (const base of ['/v2', '', '/v1']) {
    const cohere = createCohere({ baseURL: server.url + base, apiKey: key });
    const a = await rerank({ model: cohere.reranking('rerank-v3.5'), query, documents: texts, topN: 3 });
    equal(a.ranking, want.slice(0, 3).map(r => ({ originalIndex: r.index, score: r.relevanceScore, document: texts[r.index] })), `ai at ${base}`);
    equal(a.rerankedDocuments, want.slice(0, 3).map(r => texts[r.index]), `ai at ${base}: documents`);
}
globalThis.AI_SDK_LOG_WARNINGS = false;
const cohere = createCohere({ baseURL: server.url + '/v2', apiKey: key });
const objects = texts.map((text, i) => ({ i, text }));
const ranked = await rerank({ model: cohere.reranking('rerank-v3.5'), query, documents: objects, providerOptions: { cohere: { maxTokensPerDoc: 1000 } } });
equal(ranked.ranking.length === 4 && ranked.ranking.every(r => isDeepStrictEqual(r.document, objects[r.originalIndex])), true, 'ai: objects');
await fails('ai: a wrong key', () => rerank({ model: createCohere({ baseURL: server.url + '/v2', apiKey: 'no' }).reranking('m'), query, documents: texts, maxRetries: 0 }),
    e => e.statusCode === 401 && /key/.test(e.message));

// ---- voyageai ----
for (const base of ['/v1', '', '/']) {
    const voyage = new VoyageAIClient({ apiKey: key, environment: server.url + base });
    answer = await voyage.rerank({ query, documents: texts, model: 'any-name' });
    equal(answer.data, want, `voyageai at ${base}`);
}
const voyage = new VoyageAIClient({ apiKey: key, environment: server.url + '/v1' });
answer = await voyage.rerank({ query, documents: texts, model: 'rerank-2.5', topK: 2, returnDocuments: true, truncation: true });
equal(answer.data, want.slice(0, 2).map(r => ({ ...r, document: texts[r.index] })), 'voyageai: topK, returnDocuments');
equal([answer.object, answer.model, answer.usage.totalTokens > 20], ['list', 'rerank-2.5', true], 'voyageai: the rest');
await fails('voyageai: too long', () => voyage.rerank({ query, documents: ['long '.repeat(5000)], model: 'rerank-2.5', truncation: false }),
    e => e.statusCode === 400 && /tokens/.test(e.body.detail));
await fails('voyageai: a wrong key', () => new VoyageAIClient({ apiKey: 'no', environment: server.url + '/v1' }).rerank({ query, documents: texts, model: 'm' }),
    e => e.statusCode === 401 && /key/.test(e.body.detail));

// ---- a client that gives up ----
const stop = new AbortController();
setTimeout(() => stop.abort(), 100);
await fails('a request that is given up', () => two.rerank({ model: 'm', query, documents: Array(100).fill('many words '.repeat(1000)) }, { abortSignal: stop.signal, maxRetries: 0 }), () => true);
equal((await two.rerank({ model: 'm', query, documents: texts })).results, want, 'after one that was given up');

// ---- a full queue: clients ask again by themselves ----
const small = await start('--queue', '1');
const many = new CohereClientV2({ token: 'any', environment: small.url });
const all = await Promise.allSettled(Array.from({ length: 4 }, () => many.rerank({ model: 'm', query, documents: Array(20).fill(texts[0].repeat(20)) }, { maxRetries: 6 })));
equal(all.map(r => r.status), Array(4).fill('fulfilled'), 'requests that met a full queue are answered in the end');
equal(await small.end(), 0, 'the small server ends');

equal(await server.end(), 0, 'the server ends');
rmSync(folder, { recursive: true });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
