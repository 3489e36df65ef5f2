rule fetch:
    output:
        # The command verifies it. `update`: a file that is there is never removed, only looked at again
        # if this rule changes.
        update("<data>/{path}"),
    log:
        "<logs>/fetch/{path}.log",
    retries: 2
    conda:
        "../../environment.yml"
    resources:
        download=1,
    params:
        options=fetch_options(),
    message:
        "Fetch {wildcards.path}"
    shell:
        "python -m harness fetch {wildcards.path} {params.options:q} &> {log}"


rule shard:
    input:
        code=lambda wildcards: code(dataset_spec(wildcards)["shard"]),
    output:
        "<results>/data/shards/{dataset}/{shard}.npz",
    log:
        "<logs>/shard/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/shard/{dataset}/{shard}.tsv"
    conda:
        "../../environment.yml"
    params:
        spec=as_json(dataset_spec),
    message:
        "Generate {wildcards.dataset}, part {wildcards.shard}"
    shell:
        "python -m harness shard {wildcards.dataset} {wildcards.shard} --spec {params.spec:q}"
        " --out {output} &> {log}"


rule prepare:
    input:
        parts=dataset_parts,
        code=lambda wildcards: code(dataset_spec(wildcards)["loader"]),
    output:
        data="<results>/data/{dataset}.npz",
        split="<results>/data/{dataset}.split.json",
        report="<results>/data/{dataset}.report.json",
    log:
        "<logs>/prepare/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare/{dataset}.tsv"
    conda:
        "../../environment.yml"
    params:
        spec=as_json(dataset_spec),
        # Only an optional data set fetches here; another mirror must not prepare the others again.
        options=lambda wildcards: fetch_options() if dataset_spec(wildcards).get("optional") else [],
    message:
        "Read, normalise and split {wildcards.dataset}"
    shell:
        "python -m harness prepare {wildcards.dataset} {input.parts} --spec {params.spec:q}"
        " --out {output.data} --split {output.split} --report {output.report} {params.options:q}"
        " &> {log}"
