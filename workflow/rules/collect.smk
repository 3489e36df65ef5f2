# All of these read the records and what lies beside them, so they can be made again at any time:
# `python -m harness tables --records results/paper --out ...` does it for an unfinished grid.


rule tables:
    input:
        records=of_cells("record.json"),
        errors=of_cells("errors.npz"),
        powers=powers(),
        runtimes=run_times_of_all(),
        presented=sources.presented_files(),
        code=code("harness.present.tables"),
    output:
        report(
            directory("<results>/tables"),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
    log:
        "<logs>/tables.log",
    conda:
        "../../environment.yml"
    params:
        records=subpath(output[0], parent=True),
    message:
        "Make the tables"
    shell:
        "python -m harness tables --records {params.records:q} --out {output:q} &> {log:q}"


# Only the cells of one of the paper's tables: `snakemake --cores 8 table2`.
rule table1:
    input:
        records=of_cells("record.json", tasks=TABLES["table1"]),
        errors=of_cells("errors.npz", tasks=TABLES["table1"]),
        powers=powers(),
        presented=sources.presented_files(),
        code=code("harness.present.tables"),
    output:
        directory("<results>/table1"),
    log:
        "<logs>/table1.log",
    conda:
        "../../environment.yml"
    params:
        records=subpath(output[0], parent=True),
        tasks=TABLES["table1"],
    message:
        "Make table 1"
    shell:
        "python -m harness tables --records {params.records:q} --tasks {params.tasks:q} --out {output:q}"
        " &> {log:q}"


use rule table1 as table2 with:
    input:
        records=of_cells("record.json", tasks=TABLES["table2"]),
        errors=of_cells("errors.npz", tasks=TABLES["table2"]),
        presented=sources.presented_files(),
        code=code("harness.present.tables"),
    output:
        directory("<results>/table2"),
    log:
        "<logs>/table2.log",
    params:
        records=subpath(output[0], parent=True),
        tasks=TABLES["table2"],
    message:
        "Make table 2"


# Run time against length: the figure and its tables, `snakemake --cores all figure3`.
rule figure3:
    input:
        records=run_times(),
        presented=sources.presented_files(),
        code=code("harness.present.figures"),
    output:
        directory("<results>/figure3"),
    log:
        "<logs>/figure3.log",
    conda:
        "../../environment.yml"
    params:
        records=subpath(output[0], parent=True),
    message:
        "Make figure 3"
    shell:
        "python -m harness figure3 --records {params.records:q} --out {output:q} &> {log:q}"


rule figures:
    input:
        records=of_cells("record.json"),
        summaries=of_cells("summary.npz"),
        histories=of_cells("history.jsonl", untrained=False),
        traces=traces(),
        powers=powers(),
        runtimes=run_times_of_all(),
        data=prepared(),
        presented=sources.presented_files(),
        code=code("harness.present.figures"),
    output:
        report(
            directory("<results>/figures"),
            patterns=["{name}.png"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
    log:
        "<logs>/figures.log",
    benchmark:
        "<benchmarks>/figures.tsv"
    conda:
        "../../environment.yml"
    params:
        records=subpath(output[0], parent=True),
        data=lambda wildcards, input: Path(input.data[0]).parent,
    message:
        "Draw the figures"
    shell:
        "python -m harness figures --records {params.records:q} --data {params.data:q} --out {output:q}"
        " &> {log:q}"


rule report:
    input:
        records=of_cells("record.json"),
        errors=of_cells("errors.npz"),
        powers=powers(),
        runtimes=run_times_of_all(),
        tables="<results>/tables",
        figures="<results>/figures",
        presented=sources.presented_files(),
        code=code("harness.present.report"),
    output:
        report("<results>/report.html", caption="../report/report.rst", category="Report"),
    log:
        "<logs>/report.log",
    conda:
        "../../environment.yml"
    params:
        records=subpath(output[0], parent=True),
    message:
        "Write the report"
    shell:
        "python -m harness report --records {params.records:q} --tables {input.tables:q}"
        " --figures {input.figures:q} --out {output:q} &> {log:q}"


rule track:
    input:
        records=of_cells("record.json"),
        histories=of_cells("history.jsonl", untrained=False),
        tables="<results>/tables",
        figures="<results>/figures",
        presented=sources.presented_files(),
        code=code("harness.present.tracking"),
    output:
        # Not the database: it holds the runs of other budgets too.
        touch(f"<root>/mlflow/{SETTINGS.budget}.done"),
    log:
        "<logs>/track.log",
    benchmark:
        "<benchmarks>/track.tsv"
    conda:
        "../../environment.yml"
    params:
        records=subpath(input.tables, parent=True),
        uri=SETTINGS.tracking_uri or f"sqlite:///{SETTINGS.results}/mlflow/mlflow.db",
        artifacts=f"{SETTINGS.results}/mlflow/artifacts",
    message:
        "Import the runs into MLflow"
    shell:
        "python -m harness track --records {params.records:q} --uri {params.uri:q}"
        " --artifacts {params.artifacts:q} --tables {input.tables:q} --figures {input.figures:q} &> {log:q}"
