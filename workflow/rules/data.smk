rule fetch:
    output:
        # The command verifies it. `update`: a file that is there is never removed, only looked at again
        # if this rule changes.
        update("<data>/{path}"),
    log:
        "<logs>/fetch/{path}.log",
    wildcard_constraints:
        path="|".join(map(re.escape, sorted(catalogue.manifest_paths()))),
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
        "python -m harness fetch {wildcards.path:q} {params.options:q} &> {log:q}"


rule shard:
    input:
        description="<results>/data/{dataset}.json",
        code=lambda wildcards: code(dataset(wildcards).shard),
    output:
        "<results>/data/shards/{dataset}/{shard}.npz",
    log:
        "<logs>/shard/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/shard/{dataset}/{shard}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Generate {wildcards.dataset}, part {wildcards.shard}"
    shell:
        "python -m harness shard {wildcards.dataset:q} {wildcards.shard:q}"
        " --description {input.description:q} --out {output:q} &> {log:q}"


rule prepare:
    input:
        parts=dataset_parts,
        description="<results>/data/{dataset}.json",
        code=lambda wildcards: code(dataset(wildcards).loader),
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
        # Only an optional data set fetches here; another mirror must not prepare the others again.
        options=lambda wildcards: fetch_options() if dataset(wildcards).optional else [],
    message:
        "Read, normalise and split {wildcards.dataset}"
    shell:
        "python -m harness prepare {wildcards.dataset:q} {input.parts:q}"
        " --description {input.description:q} --out {output.data:q} --split {output.split:q} --report {output.report:q} {params.options:q}"
        " &> {log:q}"
