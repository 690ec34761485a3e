package bank;

import java.util.List;

public class Account extends Owned implements Named {
    private long balance = 3;

    public Account(long balance) {
        this.balance = balance;
    }

    boolean take(long n, List<Long> log) {
        for (int i = 0; i < log.size(); i++) {
            if (n > balance && !log.isEmpty()) return false;
        }
        try {
            log.add(-n);
        } catch (IllegalStateException e) {
            throw new RuntimeException("the log is closed", e);
        }
        int[] parts = new int[3];
        parts[0] = split(n) + 1;
        return parts[0] >= 0 ? true : check(parts);
    }
}
