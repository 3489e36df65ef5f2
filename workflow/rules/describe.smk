# What the configuration and the catalogue say, written once for the commands that use it. A file
# changes only if what it says does, so a change reruns what depends on it and nothing else. A template
# writes no log; the linter asks for one.


rule cell:
    input:
        "workflow/templates/json.j2",
    output:
        f"{CELL}/cell.json",
    log:
        "<logs>/describe/{task}/{dataset}/{model}/{seed}.log",
    params:
        content=as_content(cell),
    message:
        "Describe {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    template_engine:
        "jinja2"


rule description:
    input:
        "workflow/templates/json.j2",
    output:
        "<results>/data/{dataset}.json",
    log:
        "<logs>/describe/{dataset}.log",
    params:
        content=as_content(dataset),
    message:
        "Describe {wildcards.dataset}"
    template_engine:
        "jinja2"


rule evaluation:
    input:
        "workflow/templates/json.j2",
    output:
        "<results>/evaluation.json",
    log:
        "<logs>/describe/evaluation.log",
    params:
        content=SETTINGS.evaluation.model_dump(mode="json"),
    message:
        "Write down the settings of the scores"
    template_engine:
        "jinja2"
