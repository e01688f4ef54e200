/* kalm--0.1.sql - what CREATE EXTENSION kalm declares. README.md says what each function does.

   Volatility. What the functions give depends on the setting kalm.model and on the file it names, as to_tsvector(text) depends on
   default_text_search_config: STABLE, not IMMUTABLE. So they cannot stand in an index or a generated column; a trigger keeps a
   column of encoded documents up to date.

   Parallel plans. Workers get the settings of their leader and open the model themselves, so all may run in workers, except
   kalm_load, which changes a setting.

   Costs, in units of cpu_operator_cost, say that these functions come last among the conditions of a WHERE and that parallel workers pay.
   They are lower than the time that the functions take: with their true costs nearly every statement would be over jit_above_cost, and
   the server would spend a tenth of a second on loading LLVM, during which no statement can be cancelled, to save nothing. */
\echo Use "CREATE EXTENSION kalm" to load this file. \quit

CREATE FUNCTION kalm_load(path text) RETURNS text
AS 'MODULE_PATHNAME', 'kalm_pg_load' LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION kalm_load(text) IS 'choose the model file of this session; NULL: none';
-- It reads files of the server, which is a privilege. (It checks that of its caller as well.)
REVOKE ALL ON FUNCTION kalm_load(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kalm_load(text) TO pg_read_server_files;

CREATE FUNCTION kalm_encode(document text, ratio integer DEFAULT 4, bits integer DEFAULT 16) RETURNS bytea
AS 'MODULE_PATHNAME', 'kalm_pg_encode' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION kalm_encode(text, integer, integer) IS 'an encoded document, to keep';

CREATE FUNCTION kalm_score(query text, document text, instruction text DEFAULT NULL) RETURNS double precision
AS 'MODULE_PATHNAME', 'kalm_pg_score_text' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION kalm_score(text, text, text) IS 'probability that the document meets the query';

CREATE FUNCTION kalm_score(query text, document bytea, instruction text DEFAULT NULL) RETURNS double precision
AS 'MODULE_PATHNAME', 'kalm_pg_score_document' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 2000;
COMMENT ON FUNCTION kalm_score(text, bytea, text) IS 'probability that the encoded document meets the query';

CREATE FUNCTION kalm_rerank(query text, ids anyarray, documents text[], k integer DEFAULT NULL, instruction text DEFAULT NULL,
    OUT id anyelement, OUT score double precision, OUT margin double precision, OUT rank integer, OUT cut integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'kalm_pg_rerank_texts' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 400000 ROWS 10;
COMMENT ON FUNCTION kalm_rerank(text, anyarray, text[], integer, text) IS 'the best k of the documents, best first; NULL: all';

CREATE FUNCTION kalm_rerank(query text, ids anyarray, documents bytea[], k integer DEFAULT NULL, instruction text DEFAULT NULL,
    OUT id anyelement, OUT score double precision, OUT margin double precision, OUT rank integer, OUT cut integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'kalm_pg_rerank_documents' LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION kalm_rerank(text, anyarray, bytea[], integer, text) IS 'the best k of the encoded documents, best first; NULL: all';
