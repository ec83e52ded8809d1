"""Request fields of the vendors' own APIs, nested ones too: OpenAI's, Moonshot's and Anthropic's.

A path is written as in docs/reference/http_fields.toml.
"""

from __future__ import annotations

_CHAT = """
messages messages[].role messages[].content messages[].content[text].text
messages[].content[refusal]
messages[].content[image_url] messages[].content[video_url] messages[].content[input_audio]
messages[].content[file] messages[].content[text].prompt_cache_breakpoint messages[].name
messages[].refusal messages[].audio messages[].function_call messages[].reasoning_content
messages[].tool_calls messages[].tool_calls[].id messages[].tool_calls[].type
messages[].tool_calls[].function messages[].tool_calls[].function.name
messages[].tool_calls[].function.arguments messages[].tool_call_id messages[].partial
messages[].tools model audio frequency_penalty function_call functions logit_bias logprobs
top_logprobs max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls
prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention
reasoning_effort response_format response_format.type response_format.json_schema
response_format.json_schema.name response_format.json_schema.description
response_format.json_schema.schema response_format.json_schema.strict safety_identifier seed
service_tier stop store stream stream_options stream_options.include_usage
stream_options.include_obfuscation temperature thinking thinking.type thinking.keep
thinking.effort tool_choice tools tools[].type tools[].function tools[].function.name
tools[].function.description tools[].function.parameters tools[].function.strict tools[].custom
top_p user verbosity web_search_options
"""

_RESPONSES = """
access_programs background background_options context_management conversation image include input
input[message].role input[message].content input[message].content[input_image]
input[message].content[input_file] input[message].phase input[message].status
input[function_call].call_id input[function_call].name input[function_call].arguments
input[function_call].id input[function_call].status input[function_call].async
input[function_call].caller input[function_call].namespace input[function_call_output].call_id
input[function_call_output].output input[function_call_output].id
input[function_call_output].status input[function_call_output].caller
input[function_call_output].name input[function_call_output].namespace
input[custom_tool_call].call_id input[custom_tool_call].name input[custom_tool_call].input
input[custom_tool_call].id input[custom_tool_call].async input[custom_tool_call].caller
input[custom_tool_call].namespace input[custom_tool_call_output].call_id
input[custom_tool_call_output].output input[custom_tool_call_output].id
input[custom_tool_call_output].caller input[reasoning].encrypted_content
input[reasoning].content input[reasoning].summary input[reasoning].id input[reasoning].status
input[item_reference] input[compaction] input[compaction_trigger] instructions max_output_tokens
max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt
prompt_cache_key prompt_cache_options prompt_cache_retention reasoning reasoning.effort
reasoning.summary reasoning.generate_summary reasoning.context reasoning.mode safety_identifier
service_tier store stream stream_options stream_options.include_obfuscation temperature text
text.format text.format.type text.format.name text.format.schema text.format.strict
text.format.description text.verbosity tool_choice tools tools[].type tools[].name
tools[].description tools[].parameters tools[].strict tools[].output_schema
tools[].allowed_callers tools[].defer_loading tools[].async tools[].format tools[].tools
top_logprobs top_p truncation user
"""

_MESSAGES = """
model max_tokens messages messages[].role messages[].content messages[].clear_at
messages[].output_config messages[].content[text].text messages[].content[text].cache_control
messages[].content[text].citations messages[].content[image] messages[].content[document].source
messages[].content[document].source.data
messages[].content[document].source.content messages[].content[document].title
messages[].content[document].context
messages[].content[document].citations messages[].content[document].cache_control
messages[].content[tool_use].id messages[].content[tool_use].name
messages[].content[tool_use].input messages[].content[tool_use].cache_control
messages[].content[tool_use].caller messages[].content[tool_use].toolset_name
messages[].content[tool_result].tool_use_id messages[].content[tool_result].content
messages[].content[tool_result].is_error messages[].content[tool_result].cache_control
messages[].content[tool_result].toolset_name messages[].content[thinking].thinking
messages[].content[thinking].signature messages[].content[redacted_thinking]
messages[].content[tool_reference].tool_name messages[].content[tool_reference].cache_control
messages[].content[search_result].content messages[].content[search_result].source
messages[].content[search_result].title messages[].content[search_result].citations
messages[].content[search_result].cache_control system stop_sequences stream temperature top_p
top_k tools tools[].type tools[].name tools[].description tools[].input_schema tools[].strict
tools[].input_examples tools[].eager_input_streaming tools[].defer_loading
tools[].allowed_callers tools[].cache_control tool_choice tool_choice.type tool_choice.name
tool_choice.disable_parallel_tool_use thinking thinking.type thinking.budget_tokens
thinking.display thinking.block_binding metadata output_config output_config.effort
output_config.format output_config.format.type output_config.format.schema
output_config.task_budget service_tier context_management cache_control speed container
inference_geo diagnostics billing_policy compaction fallback_credit_token fallbacks mcp_servers
thread
"""

_COMPLETIONS = """
model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed
stop stream stream_options stream_options.include_usage stream_options.include_obfuscation suffix
temperature top_p user
"""

VENDOR_FIELDS = {
    "chat": frozenset(_CHAT.split()),
    "responses": frozenset(_RESPONSES.split()),
    "messages": frozenset(_MESSAGES.split()),
    "completions": frozenset(_COMPLETIONS.split()),
}
