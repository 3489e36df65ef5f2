# All of these read the records and what lies beside them, so they can be made again at any time:
# `python -m harness tables --records results/paper --out ...` does it for an unfinished grid.


rule tables:
    input:
        records=of_cells("record.json"),
        runtimes=run_times_of_all(),
        published="harness/published.yaml",
        code=code("harness.tables", "harness.scaling"),
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
        "python -m harness tables --records {params.records} --out {output} &> {log}"


# Only the cells of one of the paper's tables: `snakemake --cores 8 table2`.
rule table1:
    input:
        records=of_cells("record.json", tasks=TABLES["table1"]),
        published="harness/published.yaml",
        code=code("harness.tables"),
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
        "python -m harness tables --records {params.records} --tasks {params.tasks} --out {output}"
        " &> {log}"


use rule table1 as table2 with:
    input:
        records=of_cells("record.json", tasks=TABLES["table2"]),
        published="harness/published.yaml",
        code=code("harness.tables"),
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
        published="harness/published.yaml",
        style="harness/figures.mplstyle",
        code=code("harness.scaling_figure"),
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
        "python -m harness figure3 --records {params.records} --out {output} &> {log}"


rule figures:
    input:
        records=of_cells("record.json"),
        summaries=of_cells("summary.npz"),
        histories=of_cells("history.jsonl", controls=False),
        runtimes=run_times_of_all(),
        data=prepared(),
        published="harness/published.yaml",
        style="harness/figures.mplstyle",
        code=code("harness.figures", "harness.scaling_figure"),
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
        "python -m harness figures --records {params.records} --data {params.data} --out {output}"
        " &> {log}"


rule report:
    input:
        records=of_cells("record.json"),
        runtimes=run_times_of_all(),
        tables="<results>/tables",
        figures="<results>/figures",
        template="harness/report.html.j2",
        code=code("harness.report"),
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
        "python -m harness report --records {params.records} --tables {input.tables}"
        " --figures {input.figures} --out {output} &> {log}"


rule track:
    input:
        records=of_cells("record.json"),
        histories=of_cells("history.jsonl", controls=False),
        tables="<results>/tables",
        figures="<results>/figures",
        code=code("harness.tracking"),
    output:
        # Not the database: it holds the runs of other budgets too.
        touch(f"<root>/mlflow/{config['budget']}.done"),
    log:
        "<logs>/track.log",
    benchmark:
        "<benchmarks>/track.tsv"
    conda:
        "../../environment.yml"
    params:
        records=subpath(input.tables, parent=True),
        uri=config["tracking_uri"] or f"sqlite:///{config['results']}/mlflow/mlflow.db",
        artifacts=f"{config['results']}/mlflow/artifacts",
    message:
        "Import the runs into MLflow"
    shell:
        "python -m harness track --records {params.records} --uri {params.uri:q}"
        " --artifacts {params.artifacts} --tables {input.tables} --figures {input.figures} &> {log}"
