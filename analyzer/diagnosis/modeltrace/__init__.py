"""ModelTrace's eight measures of a model, each in a form that does not depend on scale beside the raw one."""
