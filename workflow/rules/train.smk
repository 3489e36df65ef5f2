rule train:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        code=lambda wildcards: code(model_code(wildcards), "harness.run.train"),
    output:
        # The checkpoint beside these is not an output: Snakemake would delete it before it resumes.
        weights=f"{CELL}/weights.safetensors",
        history=f"{CELL}/history.jsonl",
        outcome=f"{CELL}/train.json",
    log:
        "<logs>/train/{task}/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/train/{task}/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        model=MODELS,
    conda:
        "../../environment.yml"
    # One thread: cells run side by side and give the same bits whatever --cores is. For a few large
    # cells, `--set-threads train=4`.
    threads: 1
    resources:
        gpu=1,
    params:
        cell=subpath(output.weights, parent=True),
    message:
        "Train {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness train {params.cell:q} --data {input.data:q} &> {log:q}"


rule evaluate:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        description="<results>/data/{dataset}.json",
        evaluation="<results>/evaluation.json",
        weights=f"{CELL}/weights.safetensors",
        outcome=f"{CELL}/train.json",
        code=lambda wildcards: code(model_code(wildcards), *scoring_code(wildcards)),
    output:
        record=f"{CELL}/record.json",
        summary=f"{CELL}/summary.npz",
        samples=f"{CELL}/samples.npz",
        errors=f"{CELL}/errors.npz",
    log:
        "<logs>/evaluate/{task}/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/{task}/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        model=MODELS,
    # Rows are complete one by one; otherwise all trainings could come before the first score.
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        cell=subpath(output.record, parent=True),
    message:
        "Score {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness evaluate {params.cell:q} --data {input.data:q}"
        " --description {input.description:q} --evaluation {input.evaluation:q} &> {log:q}"


# The same training once more, past its end, with scores on the way.
rule trace:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        description="<results>/data/{dataset}.json",
        evaluation="<results>/evaluation.json",
        code=lambda wildcards: code(
            model_code(wildcards), "harness.run.trace", *scoring_code(wildcards)
        ),
    output:
        f"{CELL}/trace.json",
    log:
        "<logs>/trace/{task}/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/trace/{task}/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        model=MODELS,
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        cell=subpath(output[0], parent=True),
        steps=traced_steps,
    message:
        "Follow the scores of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness trace {params.cell:q} --steps {params.steps:q} --data {input.data:q}"
        " --description {input.description:q} --evaluation {input.evaluation:q} &> {log:q}"


use rule evaluate as control with:
    input:
        cell=f"{CELL}/cell.json",
        data="<results>/data/{dataset}.npz",
        description="<results>/data/{dataset}.json",
        evaluation="<results>/evaluation.json",
        code=lambda wildcards: code(*scoring_code(wildcards), cell(wildcards).draw),
    wildcard_constraints:
        model=rf"(?!(?:{'|'.join([MODELS, *COMMANDS])})/)\w+",  # any row that is not a model's


# What the tests behind the verdicts can see on a data set.
rule power:
    input:
        data="<results>/data/{dataset}.npz",
        description="<results>/data/{dataset}.json",
        evaluation="<results>/evaluation.json",
        code=code("harness.run.power"),
    output:
        "<results>/power/{dataset}.json",
    log:
        "<logs>/power/{dataset}.log",
    benchmark:
        "<benchmarks>/power/{dataset}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Measure the power of the tests on {wildcards.dataset}"
    shell:
        "python -m harness power --data {input.data:q} --description {input.description:q}"
        " --evaluation {input.evaluation:q} --out {output:q} &> {log:q}"


rule measure:
    input:
        code=lambda wildcards: code(model_code(wildcards), "harness.measure.lengths"),
    output:
        "<results>/{study}/{model}/{length}.json",
    log:
        "<logs>/{study}/{model}/{length}.log",
    wildcard_constraints:
        study=r"runtime(_\w+)?",
        model=MODELS,
        length=r"\d+",
    conda:
        "../../environment.yml"
    # All of them: what runs beside a measurement changes it.
    threads: all_cores
    resources:
        gpu=1,
    params:
        options=run_time_options,
        settings=measured_settings,
    message:
        "Measure {wildcards.model} at length {wildcards.length}, {wildcards.study}"
    shell:
        "python -m harness runtime --model {wildcards.model:q} --length {wildcards.length:q}"
        " {params.options} --out {output:q} &> {log:q}"
