# The workflow is workflow/Snakefile. An include does not bring its default target along, hence `default`.
include: "workflow/Snakefile"


rule default:
    default_target: True
    input:
        rules.all.input,
