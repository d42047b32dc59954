"""Language models in the games of the LLM paper (arXiv 2511.19405); needs the extra `llm`."""
