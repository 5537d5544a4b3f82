"""midsight's PerceptionLM as a model of lmms-eval, which finds it by an entry point."""
