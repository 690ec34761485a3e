"""Statistics of comparisons (`src/study/stats`), compared with scipy and statsmodels, and simulated.

    python tests/interop/check_statistics.py [--tables 200] [--seed 1]

Needs scipy 1.17.1 and statsmodels 0.15.0 (`pip install scipy==1.17.1 statsmodels==0.15.0`), and cargo. Both steps run
tests of eyekern:

1. Generated inputs with their results by the packages are compared at 1e-9, as tests/fixtures/statistics.json is:

    effects     mean squares by statsmodels (`anova_lm` of a linear model in examples and seeds), quantiles and tails by
                scipy; the formulas of docs/studies.md
    means       `scipy.stats.ttest_1samp` (`src/eval/mean.rs`)
    tails       `scipy.stats.t`
    mcnemar     `statsmodels.stats.contingency_tables.mcnemar(exact=True)`
    sign_flip   `scipy.stats.permutation_test`, all choices of signs
    holm        `statsmodels.stats.multitest.multipletests`
    jackknife   the metric of all examples but one, summed anew each time

2. The simulation (`statistics::simulation` of the test binary numerics) prints the coverage of intervals and the
   family-wise error of Holm's correction, and fails where a figure is outside its limits.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# (examples, seeds)
SHAPES = [(2, 2), (3, 2), (2, 5), (4, 3), (5, 5), (4, 9), (12, 5), (25, 10), (40, 3)]


def mean_squares(table):
    """Of examples (rows), seeds (columns) and the rest."""
    cells = [(e, s, x) for e, row in enumerate(table) for s, x in enumerate(row)]
    model = ols("d ~ C(e) + C(s)", pd.DataFrame(cells, columns=["e", "s", "d"])).fit()
    anova = anova_lm(model)
    return [anova["mean_sq"][key] for key in ("C(e)", "C(s)", "Residual")]


def effect(table):
    """The effect of a table of differences, examples by seeds, as docs/studies.md defines it."""
    examples, seeds = table.shape
    mean = table.mean()
    if 1 in table.shape:
        test = stats.ttest_1samp(table.ravel(), 0.0)
        low, high = test.confidence_interval(0.95)
        variance = table.var(ddof=1)
        parts = dict(example=variance if seeds == 1 else 0.0, seed=variance if examples == 1 else 0.0, noise=0.0)
        return dict(mean=mean, low=low, high=high, p=test.pvalue, df=test.df, **parts)
    df = np.array([examples - 1, seeds - 1, (examples - 1) * (seeds - 1)])
    a, b, n = mean_squares(table)
    total = lambda a, b: max(a - n, 0) + max(b - n, 0) + n
    freedom = lambda a, b: total(a, b) ** 2 / (np.array([a, b, n]) ** 2 / df).sum()
    f = min(
        freedom(a / stats.f.ppf(0.1, df[0], df[2]), b),
        freedom(a, b / stats.f.ppf(0.1, df[1], df[2])),
    )
    error = np.sqrt(total(a, b) / (examples * seeds))
    half = stats.t.ppf(0.975, f) * error
    return dict(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=2 * stats.t.sf(abs(mean) / error, f),
        df=f,
        example=max(a - n, 0) / seeds,
        seed=max(b - n, 0) / examples,
        noise=n,
    )


def tables(draw, count):
    """Differences with and without each effect, and of values 0 and 1."""
    for i in range(count):
        examples, seeds = SHAPES[i % len(SHAPES)] if i % 12 else [(30, 1), (1, 6)][i // 12 % 2]
        spread = draw.choice([0.0, 0.5, 2.0], 2)
        shape = (examples, seeds)
        effects = draw.normal(size=(examples, 1)) * spread[0] + draw.normal(size=(1, seeds)) * spread[1]
        if i % 3 == 2:
            right = [draw.normal(size=shape) + effects * side > 0.3 for side in (0.5, -0.5)]
            table = right[0].astype(float) - right[1]
        else:
            table = np.round(effects + draw.normal(size=shape) + draw.choice([0.0, 0.4, 50.0]), 3)
        if table.std() > 0 and (1 in shape or mean_squares(table)[2] > 1e-12):
            yield table


METRICS = {
    # a mean, an F measure, and the geometric mean of two precisions with a penalty for brevity
    "mean": (2, lambda s: s[0] / s[1]),
    "f1": (3, lambda s: 2 * s[0] / (s[1] + s[2])),
    "bleu": (5, lambda s: 100 * np.sqrt(s[0] / s[1] * (s[2] / s[3])) * min(1, np.exp(1 - s[4] / s[1]))),
}


def jackknife(rows, value):
    n = len(rows)
    theta = value(rows.sum(0))
    without = np.array([value(np.delete(rows, i, 0).sum(0)) for i in range(n)])
    values = n * theta - (n - 1) * without
    return values - values.mean() + theta


def statistics_of(draw, metric, n):
    length = draw.integers(3, 30, n)
    other = draw.integers(3, 30, n)
    common = draw.integers(1, np.minimum(length, other) + 1)
    if metric == "mean":
        return np.stack([draw.integers(0, 2, n), np.ones(n, int)], 1)
    if metric == "f1":
        return np.stack([common, length, other], 1)
    return np.stack([common, length, np.maximum(common - 1, 0), length - 1, other], 1)


def generate(seed, count):
    draw = np.random.default_rng(seed)
    effects = [{"seeds": table.T.tolist(), **effect(table)} for table in tables(draw, count)]
    means = []
    for n in (2, 3, 10, 200):
        values = np.round(draw.normal(draw.normal(), 2.0, n), 3)
        low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        means.append(dict(values=values.tolist(), mean=values.mean(), low=low, high=high))
    pairs = [(0, 0), (0, 1), (0, 6), (7, 7), (3, 11), (25, 12), (300, 251), (0, 2000)]
    pairs += draw.integers(0, 80, (count // 4, 2)).tolist()
    exact = lambda b, c: mcnemar([[5, b], [c, 5]], exact=True).pvalue
    flips = []
    for n in [2, 5, 9, 12] + [7] * (count // 20):
        d = np.round(draw.normal(0.4, 1.0, n), 2)
        d[d == 0] = 0.01
        flipped = stats.permutation_test(
            (d,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, n_resamples=10**6
        )
        flips.append(dict(d=d.tolist(), p=flipped.pvalue))
    ps = [[0.04], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.02], [1.0, 0.0]]
    ps += [(draw.random(draw.integers(2, 12)) ** 3).tolist() for _ in range(count // 20 + 1)]
    knives = []
    for metric, (width, value) in METRICS.items():
        for n in [2, 9] + [60] * (count // 20):
            rows = statistics_of(draw, metric, n)
            knives.append(dict(metric=metric, width=width, stats=rows.ravel().tolist(), values=jackknife(rows, value)))
    return dict(
        effects=effects,
        means=means,
        mcnemar=[[int(b), int(c), exact(b, c)] for b, c in pairs],
        sign_flip=flips,
        holm=[dict(p=p, adjusted=multipletests(p, method="holm")[1].tolist()) for p in ps],
        jackknife=knives,
    )


def write(file, seed, count):
    """One case a line."""
    plain = lambda x: x.tolist()
    parts = [
        f'"{key}": [\n' + ",\n".join(json.dumps(case, default=plain) for case in cases) + "\n]"
        for key, cases in generate(seed, count).items()
    ]
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=200, type=int)
    parser.add_argument("--seed", default=1, type=int)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "statistics.json"
        write(file, args.seed, args.tables)
        test = ["cargo", "test", "--release", "--quiet", "--test", "numerics", "--", "--nocapture"]
        for names in (["statistics::stored"], ["--ignored", "statistics::simulation"]):
            run = subprocess.run(test + names, cwd=ROOT, env={**os.environ, "EYEKERN_STATISTICS": str(file)})
            if run.returncode:
                sys.exit(run.returncode)


if __name__ == "__main__":
    main()
