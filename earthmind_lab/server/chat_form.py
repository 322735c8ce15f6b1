"""The form of chat completions: OpenAI's, as far as it means something here, and our additions.

What this server can't do is not in the form, or only with the one value that changes nothing: a
request is refused rather than answered without what it asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from earthmind_lab.exchange import Ended, Modality

MAX_TEXT = 200_000
"""Characters of one text."""
UNSUPPORTED = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "modalities", "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty",
        "reasoning_effort", "response_format", "service_tier", "stop", "store", "tool_choice",
        "tools", "top_logprobs", "top_p", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Parameters of OpenAI's API that are refused by name."""
Words = Annotated[str, Field(max_length=MAX_TEXT)]
MAX_PARTS = 64
"""Parts of one message."""
Nothing = Annotated[list[Any], Field(max_length=0)]


class Form(BaseModel):
    """Part of a request: what is not named is refused."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Form):
    """Words."""

    type: Literal["text"]
    text: Words


class ImageURL(Form):
    """A picture inside the request."""

    url: str = Field(
        description="data:image/png;base64,… or data:image/jpeg;base64,…; other addresses are "
        "refused, nothing is ever fetched or opened"
    )
    detail: Literal["auto", "high"] | None = Field(
        default=None, description="A picture is always seen in full."
    )


class About(Form):
    """What a picture is; ours. Without it, an optical picture without place."""

    modality: Modality = "optical"
    name: str = Field(default="picture", max_length=100, description="Name of the composite.")
    gsd: float | None = Field(
        default=None, gt=0, le=1e6, allow_inf_nan=False, description="Metres per pixel."
    )
    time: str | None = Field(default=None, max_length=100, description="ISO 8601, UTC.")


class ImagePart(Form):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageURL
    earthmind: About | None = None


class Instruction(Form):
    """What is put before the first question: the model has no place of its own for it."""

    role: Literal["system", "developer"]
    name: None = None
    content: Words | Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)]


class Question(Form):
    """What a person asks. Pictures stand in the first question; all later ones are about them."""

    role: Literal["user"]
    name: None = None
    content: (
        Words
        | Annotated[
            list[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
            Field(max_length=MAX_PARTS, fail_fast=True),
        ]
    ) = Field(examples=["Is there any water?"])  # fmt: skip


class Said(BaseModel):
    """Our part of an earlier answer, as it was given."""

    raw: Words = Field(
        default="", description="The answer with its marks, as the model reads it again."
    )


class Earlier(Form):
    """An earlier answer, as a client gives it back."""

    role: Literal["assistant"]
    name: None = None
    content: Words | Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)]
    earthmind: Said | None = None
    refusal: None = None
    annotations: Nothing | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing | None = None


Message = Annotated[Instruction | Question | Earlier, Field(discriminator="role")]


class StreamOptions(Form):
    """What a stream says beside the answer."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class PlainText(Form):
    """The one form of answers."""

    type: Literal["text"]


class Ask(Form):
    """A question, with what was said before it."""

    model: str = Field(max_length=200, description="A name that GET /v1/models gives.")
    messages: list[Message] = Field(
        min_length=1, max_length=200, fail_fast=True,
        description="Questions and answers by turns, a question at the end.",
    )  # fmt: skip
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="Longest answer; default 128"
    )
    max_tokens: int | None = Field(default=None, ge=1, description="The same under its older name.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, allow_inf_nan=False, description="Default 0: greedy."
    )
    seed: int | None = Field(
        default=None, ge=-(2**53), le=2**53, description="For sampling; default 0."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(
        default=None, max_length=200, description="Names a seat of this token."
    )
    safety_identifier: str | None = Field(default=None, max_length=200, description="As user.")
    prompt_cache_key: str | None = Field(default=None, max_length=200, description="Has no effect.")
    metadata: dict[str, str] | None = Field(
        default=None, max_length=16, description="Has no effect."
    )
    # With the one value that changes nothing.
    n: int | None = Field(default=None, ge=1, le=1)
    top_p: float | None = Field(default=None, ge=1, le=1)
    frequency_penalty: float | None = Field(default=None, ge=0, le=0)
    presence_penalty: float | None = Field(default=None, ge=0, le=0)
    logprobs: Literal[False] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    response_format: PlainText | None = None
    stop: Nothing | None = None
    store: Literal[False] | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # Clients of some languages write out whatever is not set.
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    parallel_tool_calls: None = None
    prediction: None = None
    reasoning_effort: None = None
    top_logprobs: None = None
    verbosity: None = None
    web_search_options: None = None


class Mask(BaseModel):
    """Run lengths of a mask, in the compressed form of COCO (``pycocotools.mask.decode``)."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: str


class Marked(BaseModel):
    """An object that the model marked."""

    label: str
    score: float | None = Field(description="The model's own estimate of the mask's IoU.")
    box: tuple[float, float, float, float] | None = Field(description="x0, y0, x1, y1 in pixels.")
    view: int = Field(description="Number of the picture that it lies on, from 0.")
    text_span: tuple[int, int] | None = Field(description="Where in the content it is named.")
    mask: Mask | None


class Extension(BaseModel):
    """What an answer has beside its words."""

    notice: str = Field(description="Who speaks and what it knows; say it beside the answer.")
    ended: Ended = Field(
        description="Why it ended; finish_reason is stop for stop and empty, length for length and "
        "for repetition: there the model was cut off as it went round in a circle."
    )
    raw: str = Field(description="Give it back under earthmind with an earlier answer.")
    revision: str
    adapter: dict[str, Any] | None = Field(description="Name and hash of the one that answered.")
    objects: list[Marked]
    usage: dict[str, Any]


class Answer(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    earthmind: Extension


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: Answer
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Tokens(BaseModel):
    """What was read and written; prompt tokens only as far as they had to be read anew."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


class Model(BaseModel):
    """A model that answers here."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    earthmind: dict[str, Any]


class Models(BaseModel):
    """All of them: the one, and each adapter on it as ``model:adapter``."""

    object: Literal["list"] = "list"
    data: list[Model]
