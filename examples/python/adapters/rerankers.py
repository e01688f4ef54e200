"""rerankers.py - for programs that were written for the packages `rerankers` or `flashrank`: the same calls and result objects over
this model. Neither package is needed.

    from kalm_rerank.rerankers import Reranker              # rerankers: results.top_k(3), result.text, result.score, result.doc_id
    results = Reranker("nano.kalm").rank(query="...", docs=["...", "..."], doc_ids=["a", "b"])

    from kalm_rerank.rerankers import Ranker, RerankRequest # flashrank: passages as dicts, with "score"
    passages = Ranker("nano.kalm").rerank(RerankRequest(query="...", passages=[{"id": 1, "text": "...", "meta": {}}]))

The wheel has it as kalm_rerank.rerankers. model is the path of a .kalm file, or a kalm_rerank.Reranker."""

import asyncio
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Union

import kalm_rerank

_Id = Union[int, str]


class Document:
    """A text with an id and metadata."""

    def __init__(self, text: str, doc_id: Optional[_Id] = None, metadata: Optional[Dict[str, Any]] = None):
        self.text, self.doc_id, self.metadata = text, doc_id, metadata or {}

    def __repr__(self) -> str:
        return "Document(text=%r, doc_id=%r, metadata=%r)" % (self.text, self.doc_id, self.metadata)


class Result:
    """A document at its place: rank counts from 1, score is from 0 to 1. What it lacks is looked for in the document and its metadata."""

    def __init__(self, document: Document, score: Optional[float] = None, rank: Optional[int] = None):
        self.document, self.score, self.rank = document, score, rank

    def __getattr__(self, name: str) -> Any:
        document = self.__dict__.get("document")       # none while a pickle is read
        if document is not None and not name.startswith("__"):
            if name in document.__dict__:
                return document.__dict__[name]
            if name in document.metadata:
                return document.metadata[name]
        raise AttributeError("a Result has no %r, nor has its document" % name)

    def __repr__(self) -> str:
        return "Result(document=%r, score=%r, rank=%r)" % (self.document, self.score, self.rank)


class RankedResults:
    """Results, best first."""

    def __init__(self, results: List[Result], query: str, has_scores: bool = True):
        self.results, self.query, self.has_scores = results, query, has_scores

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __repr__(self) -> str:
        return "RankedResults(results=%r, query=%r, has_scores=%r)" % (self.results, self.query, self.has_scores)

    def results_count(self) -> int:
        return len(self.results)

    def top_k(self, k: int) -> List[Result]:
        return self.results[:k]

    def get_result_by_docid(self, doc_id: _Id) -> Optional[Result]:
        return next((one for one in self.results if one.document.doc_id == doc_id), None)

    def get_score_by_docid(self, doc_id: _Id) -> Optional[float]:
        found = self.get_result_by_docid(doc_id)
        return found.score if found else None


def _engine(model: Any, options: Dict[str, Any]) -> "kalm_rerank.Reranker":
    if isinstance(model, kalm_rerank.Reranker):
        if options:
            raise TypeError("%s: these belong to a Reranker that is made here" % ", ".join(sorted(options)))
        return model
    return kalm_rerank.Reranker(model, **options)


def _documents(docs: Any, doc_ids: Optional[Iterable[_Id]], metadata: Any) -> List[Document]:
    docs = [docs] if isinstance(docs, (str, Document)) else list(docs)
    ids = list(range(len(docs))) if doc_ids is None else list(doc_ids)
    extra = [None] * len(docs) if metadata is None else [metadata] if isinstance(metadata, dict) else list(metadata)
    if len(ids) != len(docs) or len(extra) != len(docs):
        raise ValueError("there are %d documents, %d ids and %d dicts of metadata" % (len(docs), len(ids), len(extra)))
    return [one if hasattr(one, "text") and hasattr(one, "doc_id") else Document(one, i, m) for one, i, m in zip(docs, ids, extra)]


class Reranker:
    """rerankers.Reranker's methods. options: those of kalm_rerank.Reranker."""

    def __init__(self, model: Any, **options: Any):
        self.model = _engine(model, options)

    def rank(self, query: str, docs: Union[str, Document, Sequence[Union[str, Document]]], doc_ids: Optional[Iterable[_Id]] = None,
             metadata: Optional[Sequence[Dict[str, Any]]] = None, **options: Any) -> RankedResults:
        """docs: texts, or Documents. doc_ids [n], metadata [n]. options: those of kalm_rerank.Reranker.rank."""
        documents = _documents(docs, doc_ids, metadata)
        hits = self.model.rank(query, [one.text for one in documents], **options)
        return RankedResults([Result(documents[hit["corpus_id"]], float(hit["score"]), i + 1) for i, hit in enumerate(hits)], query)

    async def rank_async(self, query: str, docs: Any, doc_ids: Optional[Iterable[_Id]] = None, metadata: Any = None,
                         **options: Any) -> RankedResults:
        """The same on a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.rank(query, docs, doc_ids, metadata, **options))

    def score(self, query: str, doc: str) -> float:
        return self.rank(query, [doc])[0].score


class RerankRequest:
    """query, and passages as dicts with "text" and whatever else."""

    def __init__(self, query: Optional[str] = None, passages: Optional[List[Dict[str, Any]]] = None):
        self.query, self.passages = query, passages if passages is not None else []


class Ranker:
    """flashrank.Ranker. options: those of kalm_rerank.Reranker."""

    def __init__(self, model_name: Any, **options: Any):
        self.model = _engine(model_name, options)

    def rerank(self, request: RerankRequest) -> List[Dict[str, Any]]:
        """Copies of the passages, best first, with "score" from 0 to 1. (flashrank changes and sorts those of the request.)"""
        if request.query is None:
            raise ValueError("the request has no query")
        hits = self.model.rank(request.query, [passage["text"] for passage in request.passages])
        return [dict(request.passages[hit["corpus_id"]], score=float(hit["score"])) for hit in hits]
