"""Facts at hand on every machine: what the standard library's own docstrings say about its functions."""

import builtins
import importlib
import inspect
import random
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

MODULES = """
abc ast asyncio base64 bisect bz2 calendar cmath codecs collections colorsys concurrent.futures configparser contextlib
contextvars copy csv dataclasses datetime decimal difflib dis doctest email.utils enum errno fileinput filecmp fnmatch
fractions functools gc getpass gettext glob graphlib gzip hashlib heapq hmac html http.client http.cookies importlib
importlib.util inspect io ipaddress itertools json keyword linecache locale logging lzma marshal math mimetypes
multiprocessing netrc numbers operator os os.path pathlib pickle pickletools pkgutil platform plistlib pprint profile
pstats queue quopri random re reprlib sched secrets select selectors shelve shlex shutil signal site socket socketserver
sqlite3 ssl stat statistics string struct subprocess symtable sys sysconfig tarfile tempfile textwrap threading time
timeit token tokenize trace traceback tracemalloc types unicodedata unittest urllib.parse urllib.request uuid warnings
weakref webbrowser xml.sax.saxutils xmlrpc.client zipfile zlib zoneinfo
"""
BUILTIN_TYPES = (str, bytes, int, float, list, dict, set, tuple)
PER_MODULE = 14  # no module drowns the others
MOST_WORDS = 13  # longer sentences take a model of a few million parameters too long to learn
MOST_SIGNATURE = 30
STOP_WORDS = frozenset({"a", "an", "the", "of", "to", "is", "are", "be", "its", "it", "this", "that", "and", "or"})
SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,'\-()]*\.")


@dataclass(frozen=True, slots=True)
class Symbol:
    """One function: `math.cos`, `(x, /)` and the first sentence of its docstring."""

    name: str
    signature: str
    sentence: str

    @property
    def call(self) -> str:
        return f"{self.name}{self.signature}"


def key_words(text: str) -> tuple[str, ...]:
    """The words that carry the meaning, in order: lower case, without articles and the like."""
    return tuple(word for word in re.findall(r"[a-z0-9_]+", text.lower()) if word not in STOP_WORDS)


def contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    """Whether `part` occurs in `words` as a run."""
    return f" {' '.join(part)} " in f" {' '.join(words)} "


def stdlib_symbols(count: int) -> list[Symbol]:
    """The same symbols on every run of one Python version, sorted by name; fewer where it has fewer that fit."""
    found = _distinct(_capped(_candidates()))
    chosen = random.Random(0).sample(found, min(count, len(found)))
    return sorted(chosen, key=lambda symbol: symbol.name)


def _candidates() -> Iterator[tuple[str, Symbol]]:
    for owner in (builtins, *BUILTIN_TYPES):
        yield from _symbols_of(owner, "" if owner is builtins else owner.__name__)
    for module in _modules():
        yield from _symbols_of(module, module.__name__.replace("posixpath", "os.path"))


def _modules() -> Iterator[ModuleType]:
    """A module that this Python was built without (ssl, sqlite3, ...) is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons announce which of these will go
        for name in MODULES.split():
            try:
                yield importlib.import_module(name)
            except ImportError:
                continue


def _symbols_of(owner: object, prefix: str) -> Iterator[tuple[str, Symbol]]:
    for name, member in sorted(vars(owner).items()):
        if name.startswith("_") or inspect.isclass(member) or not callable(member):
            continue
        symbol = _symbol(f"{prefix}.{name}" if prefix else name, member)
        if symbol is not None and _defined_in(member, prefix):
            yield prefix, symbol


def _defined_in(member: object, prefix: str) -> bool:
    """Keeps out what a module merely imported from another."""
    home = (getattr(member, "__module__", None) or prefix).replace("posixpath", "os.path")
    return not prefix or home.lstrip("_").split(".")[0] == prefix.split(".")[0]


def _symbol(name: str, member: object) -> Symbol | None:
    try:
        signature = str(inspect.signature(member))  # type: ignore[arg-type]  # vars() knows no types; callable() was asked
    except (ValueError, TypeError):  # some C functions carry no text signature
        return None
    sentence = first_sentence(inspect.getdoc(member) or "")
    signature = (
        signature.replace("($self, ", "(").replace("(self, /, ", "(").replace("(self, /)", "()").replace("(self, ", "(")
    )
    fits = SENTENCE.fullmatch(sentence) and 5 <= len(sentence.split()) <= MOST_WORDS
    return (
        Symbol(name, signature, sentence)
        if fits and len(signature) <= MOST_SIGNATURE and " at 0x" not in signature
        else None
    )


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring's first paragraph, on one line, ending in a full stop."""
    paragraph = " ".join(re.split(r"\n\s*\n", doc.strip())[0].split())
    return re.split(r"(?<=[a-z)])\.(?:\s|$)", paragraph)[0].rstrip(".") + "."


def _capped(candidates: Iterable[tuple[str, Symbol]]) -> Iterator[Symbol]:
    """Not the first of each owner, which would be the alphabet's: every k-th, so that all letters have a chance."""
    grouped: dict[str, list[Symbol]] = {}
    for owner, symbol in candidates:
        grouped.setdefault(owner, []).append(symbol)
    for symbols in grouped.values():
        stride = max(1, -(-len(symbols) // PER_MODULE))
        yield from symbols[::stride]


def _distinct(symbols: Iterable[Symbol]) -> list[Symbol]:
    """Drops a sentence that contains, or is contained in, another's: an answer must say one fact and no other."""
    kept: list[tuple[Symbol, tuple[str, ...]]] = []
    for symbol in symbols:
        words = key_words(symbol.sentence)
        if not any(contains(words, other) or contains(other, words) for _, other in kept):
            kept.append((symbol, words))
    return [symbol for symbol, _ in kept]
