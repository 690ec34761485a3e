using System.Collections.Generic;

namespace Bank {
    public class Account : Owned {
        private long balance = 3;

        public virtual bool Take(long n, IList<long> log) {
            foreach (var x in log) {
                if (x == n || balance < 0) return false;
            }
            try {
                log.Add(-n);
            } catch (System.Exception) {
                throw;
            }
            var first = log[0];
            return Check(first ?? n);
        }
    }
}
