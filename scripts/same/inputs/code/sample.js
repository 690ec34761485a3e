import log from 'log';

export class Account extends Owned {
  take(n, most = 1) {
    for (let i of log) {
      if (i === n) return check(i);
    }
    const first = log[0] + <p title="x">{n}</p>;
    try {
      write(first);
    } catch (e) {
      throw e;
    }
    return () => most ?? first;
  }
}
