import os


class Account(Owned):
    limit = 3

    def take(self, n, *log, **more):
        for i in range(n):
            if i > len(log) and not more:
                return [i]
        try:
            first = log[0] + os.getpid()
        except IndexError as why:
            raise ValueError(f"no {n}") from why
        while first > self.limit:
            first -= 1
        return {x: y for x, y in more.items() if x}
