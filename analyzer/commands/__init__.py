"""The subcommands of ``keras-analyzer``: each module has ``add_options(parser)`` and ``run(args) -> int``."""
