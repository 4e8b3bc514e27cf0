"""When two prompts or two answers are the same."""

import pytest

from feedback.judgements.conversation import (
    UnsupportedContent,
    answer_hash,
    clean,
    is_empty,
    prompt_hash,
    same_answer,
    words,
)

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {}}}


def asked(*contents: str) -> list[dict[str, object]]:
    return [clean({"role": "user", "content": content}) for content in contents]


def test_spacing_and_the_form_of_characters_do_not_make_another_prompt() -> None:
    assert prompt_hash(asked("What  is\ncafe\u0301? "), None) == prompt_hash(asked("What is café?"), None)


def test_another_word_a_tool_or_an_earlier_turn_makes_another_prompt() -> None:
    hashes = {
        prompt_hash(asked("What is it?"), None),
        prompt_hash(asked("What was it?"), None),
        prompt_hash(asked("What is it?"), [TOOL]),
        prompt_hash(asked("Hello.", "What is it?"), None),
    }
    assert len(hashes) == 4


def test_no_tools_and_an_empty_list_of_tools_are_the_same() -> None:
    assert prompt_hash(asked("What?"), []) == prompt_hash(asked("What?"), None)


def test_who_speaks_is_part_of_the_prompt() -> None:
    assert prompt_hash([clean({"role": "system", "content": "Hi"})], None) != prompt_hash(asked("Hi"), None)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    assert clean({"role": "user", "content": parts})["content"] == "What is this?"


def test_an_image_is_refused() -> None:
    with pytest.raises(UnsupportedContent):
        clean({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]})


def test_what_an_answer_thought_does_not_make_it_another_answer() -> None:
    said = {"role": "assistant", "content": "Four."}
    assert same_answer(clean({**said, "reasoning": "2 + 2"}), clean(said))


def test_answers_that_call_different_tools_differ() -> None:
    def calling(arguments: str) -> dict[str, object]:
        call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
        return clean({"role": "assistant", "content": None, "tool_calls": [call]})

    assert answer_hash(calling('{"x": 1}')) != answer_hash(calling('{"x": 2}'))
    assert not is_empty(calling("{}"))


def test_a_tool_calls_arguments_are_text_whatever_they_came_as() -> None:
    call = {"function": {"name": "look_up", "arguments": {"b": 2, "a": 1}}}
    cleaned = clean({"role": "assistant", "content": "", "tool_calls": [call]})
    assert cleaned["tool_calls"][0]["function"]["arguments"] == '{"a": 1, "b": 2}'


def test_absent_fields_are_left_out() -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": None, "refusal": None, "name": None}
    assert clean(message) == {"role": "assistant", "content": "Hi"}


def test_words_are_what_there_is_to_read() -> None:
    assert words(clean({"role": "assistant", "content": "One two  three."})) == 3
    assert is_empty(clean({"role": "assistant", "content": " \n"}))
