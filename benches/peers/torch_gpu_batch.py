"""The batch of `eyekern bench step`, id by id and weight by weight: both draw it from the same Philox streams
(src/cli/bench/load.rs)."""
import torch

BENCH = 5  # the purpose of the streams (src/random.rs)


def philox(key, counter):
    """Philox4x32-10 (Salmon et al., SC 2011): four words."""
    k0, k1 = key
    c = counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = ((p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


class Stream:
    """src/random.rs: a sequential reader of one stream."""

    def __init__(self, seed, index):
        self.key, self.index, self.block, self.words = (seed & 0xFFFFFFFF, seed >> 32), index, 0, []

    def word(self):
        if not self.words:
            self.words = list(reversed(philox(self.key, (self.block, self.index, BENCH, 0))))
            self.block += 1
        return self.words.pop()

    def uniform(self):
        high = self.word() << 21
        return ((high ^ (self.word() >> 11)) + 0.5) / 2**53

    def below(self, n):
        limit = 0xFFFFFFFF - 0xFFFFFFFF % n
        while True:
            word = self.word()
            if word < limit:
                return word % n


def batch(args, kind, active, vocab):
    """ids, pos, segment [B, T]; of each label the slot that predicts it, id, weight [R]; how many tokens are real."""
    slots, seq = args.batch * args.seq, args.seq
    cuts, ids, labels, weights = (Stream(args.seed, i) for i in range(4))
    ids = [4 + ids.below(vocab - 4) for _ in range(slots)]
    on = [labels.uniform() < active for _ in range(slots)]
    weights = [1 + 3 * weights.uniform() for _ in range(slots)]
    least, most = (min(n, seq) for n in args.seg_lens)
    pos, segment, rows, real, examples = [], [], [], 0, 0
    for row in range(args.batch):
        lengths = []
        if kind == "full":
            lengths = [seq]
        elif kind == "padded":
            lengths = [least + cuts.below(most - least + 1)]
        while kind == "packed" and sum(lengths) < seq:
            lengths.append(min(least + cuts.below(most - least + 1), seq - sum(lengths)))
        at = row * seq
        for length in lengths:
            room = seq if kind == "padded" else length
            pos += range(room)
            segment += [examples] * room
            rows += [t - 1 for t in range(at + 1, at + length) if on[t]]
            at, real, examples = at + room, real + length, examples + 1
    shape = (args.batch, seq)
    own = lambda values, dtype=torch.long: torch.tensor(values, dtype=dtype, device=args.device)
    return dict(
        ids=own(ids).view(shape),
        pos=own(pos).view(shape),
        segment=own(segment).view(shape),
        rows=own(rows),
        labels=own([ids[t + 1] for t in rows]),
        weights=own([weights[t + 1] for t in rows], torch.float32),
        real=real,
        kind=kind,
    )
