import { log } from 'log';

interface Named<T> {
  take(n: number): T;
}

export class Account implements Named<string> {
  take(n: number): string {
    while (n > 0) n -= 1;
    const parts: number[] = [1];
    if (parts[0] < n) throw new Error(`no ${n}`);
    return log(parts[0]) as unknown as string;
  }
}
