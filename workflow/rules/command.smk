# Models that are commands: what they are given, the command in its own environment, its scores.


rule given:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        code=code("harness.run.command"),
    output:
        data=temp(f"{CELL}/given.npz"),
        script=f"{CELL}/command.sh",
    log:
        "<logs>/given/{task}/{dataset}/{model}/{seed}.log",
    wildcard_constraints:
        model="|".join(COMMANDS) or "(?!)",
    conda:
        "../../environment.yml"
    params:
        cell=subpath(output.script, parent=True),
    message:
        "Write what {wildcards.model} is given of {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness command {params.cell:q} --data {input.data:q} &> {log:q}"


# One rule for each, since an environment belongs to a rule. The script ends well whatever the command
# does: a failure is a result.
for command in COMMANDS:

    rule:
        name:
            f"command_{command}"
        input:
            data=f"{CELL}/given.npz",
            script=f"{CELL}/command.sh",
            files=commanded(command).files,
        output:
            answer=f"{CELL}/answer.npz",
            ended=f"{CELL}/ended.txt",
        log:
            "<logs>/command/{task}/{dataset}/{model}/{seed}.log",
        benchmark:
            "<benchmarks>/command/{task}/{dataset}/{model}/{seed}.tsv"
        wildcard_constraints:
            model=command,
        conda:
            conda_of(command)
        container:
            commanded(command).container
        resources:
            gpu=1,
        message:
            "Run {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
        shell:
            "sh {input.script:q} {log:q}"


use rule evaluate as answer with:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        description="<results>/data/{dataset}.json",
        evaluation="<results>/evaluation.json",
        answer=f"{CELL}/answer.npz",
        ended=f"{CELL}/ended.txt",
        code=lambda wildcards: code(*scoring_code(wildcards)),
    wildcard_constraints:
        model="|".join(COMMANDS) or "(?!)",
