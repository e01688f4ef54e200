// client.mjs KALM_SEARCH DB - kalm-search --mcp driven by the unmodified client of @modelcontextprotocol/sdk; prints "N passed, M failed".
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const [command, database] = process.argv.slice(2);
let passed = 0, failed = 0;
const check = (what, good) => { if (good) passed++; else { failed++; console.log('FAILED: ' + what); } };
const refused = async (what, promise, code) => {
    try { await promise; check(what + ': was taken', false); }
    catch (e) { check(`${what}: ${e.code} ${e.message}`, code === undefined || e.code === code); }
};

const client = new Client({ name: 'test', version: '1' });
await client.connect(new StdioClientTransport({ command, args: [database, '--mcp'] }));
check('name', client.getServerVersion().name === 'kalm-search');
check('capabilities', client.getServerCapabilities().tools !== undefined && client.getServerCapabilities().prompts === undefined);
check('instructions', client.getInstructions().includes('search'));
await client.ping();
const { tools } = await client.listTools();
check('one tool', tools.length === 1 && tools[0].name === 'search');
check('its input', tools[0].inputSchema.required[0] === 'query' && tools[0].annotations.readOnlyHint === true);

// the client compares structuredContent with the schema that tools/list gave
const answer = await client.callTool({ name: 'search', arguments: { query: 'chess engine', limit: 2 } });
check('an answer', !answer.isError && answer.structuredContent.results[0].path.endsWith('chess.md'));
check('its text', answer.content[0].type === 'text' && answer.content[0].text.startsWith('1. ') && answer.content[0].text.includes('chess.md'));
check('its limit', answer.structuredContent.results.length <= 2);
check('nothing found', (await client.callTool({ name: 'search', arguments: { query: 'qqqqqq' } })).structuredContent.results.length === 0);
for (const wrong of [{}, { query: 7 }, { query: '' }, { query: 'chess', limit: 0 }, { query: 'chess', limit: 'two' }, { query: ' \n' }])
    check('wrong arguments ' + JSON.stringify(wrong), (await client.callTool({ name: 'search', arguments: wrong })).isError === true);
await refused('a tool that there is not', client.callTool({ name: 'nothing', arguments: {} }), -32602);
await refused('a method that there is not', client.request({ method: 'none/such' }, { parse: x => x }), -32601);
const many = await Promise.all([...Array(50).keys()].map(i => client.callTool({ name: 'search', arguments: { query: 'chess engine ' + i } })));
check('fifty questions at once', many.every(a => a.structuredContent.results.some(r => r.path.endsWith('chess.md'))));
const hard = ['"', '*', 'NEAR(a b)', 'a AND', 'NOT', '(', 'words:x', '^chess', 'chess"; DROP TABLE documents', '\u0000chess', '国際象棋', '\ud83d\ude00', 'x'.repeat(1 << 20)];
for (const query of hard)
    check('question ' + query.slice(0, 30), (await client.callTool({ name: 'search', arguments: { query } })).content !== undefined);
const stop = new AbortController();
const long = client.callTool({ name: 'search', arguments: { query: 'chess engine that analyses positions and backups of files' } }, undefined, { signal: stop.signal });
stop.abort();
await refused('a question that was cancelled', long);
check('after all that', (await client.callTool({ name: 'search', arguments: { query: 'chess' } })).structuredContent.results.length > 0);
await client.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
