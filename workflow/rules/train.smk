rule train:
    input:
        data="<results>/data/{dataset}.npz",
        code=lambda wildcards: code(cell_spec(wildcards)["class"], "harness.trainer"),
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
        spec=as_json(cell_spec),
        cell=subpath(output.weights, parent=True),
    message:
        "Train {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness train --spec {params.spec:q} --data {input.data} --out {params.cell}"
        " &> {log}"


rule evaluate:
    input:
        data="<results>/data/{dataset}.npz",
        weights=f"{CELL}/weights.safetensors",
        outcome=f"{CELL}/train.json",
        code=lambda wildcards: code(cell_spec(wildcards)["class"], *scoring(wildcards)),
    output:
        record=f"{CELL}/record.json",
        summary=f"{CELL}/summary.npz",
        samples=f"{CELL}/samples.npz",
    log:
        "<logs>/evaluate/{task}/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/{task}/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        model=MODELS,
    conda:
        "../../environment.yml"
    resources:
        gpu=1,
    params:
        spec=as_json(cell_spec),
        dataset=as_json(dataset_spec),
        evaluation=json.dumps(config["evaluation"]),
        cell=subpath(output.record, parent=True),
    message:
        "Score {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "python -m harness evaluate --spec {params.spec:q} --dataset-spec {params.dataset:q}"
        " --evaluation {params.evaluation:q} --data {input.data} --out {params.cell} &> {log}"


use rule evaluate as control with:
    input:
        data="<results>/data/{dataset}.npz",
        code=lambda wildcards: code(*scoring(wildcards)),
    wildcard_constraints:
        model=rf"(?!(?:{MODELS})/)\w+",  # any row that is not a model's
    params:
        spec=as_json(control_spec),
        dataset=as_json(dataset_spec),
        evaluation=json.dumps(config["evaluation"]),
        cell=subpath(output.record, parent=True),


rule measure:
    input:
        code=lambda wildcards: code(
            grid.describe("models", wildcards.model)["class"], "harness.runtime"
        ),
    output:
        "<results>/runtime/{model}/{length}.json",
    log:
        "<logs>/runtime/{model}/{length}.log",
    wildcard_constraints:
        model=MODELS,
        length=r"\d+",
    conda:
        "../../environment.yml"
    # All of them: what runs beside a measurement changes it.
    threads: all_cores
    resources:
        gpu=1,
    params:
        limit=lambda wildcards: config["runtime"]["limit"],
    message:
        "Measure {wildcards.model} at length {wildcards.length}"
    shell:
        "python -m harness runtime --model {wildcards.model} --length {wildcards.length}"
        " --limit {params.limit} --out {output} &> {log}"
