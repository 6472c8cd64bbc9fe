/** One line that tells what is being waited for; a bar where there is a count. */
export interface Progress {
  say(what: string): void;
  step(what: string, done: number, total: number): void;
  done(): void;
}

const barWidth = 28;
// Nothing is shown for what is over before a person would ask.
const quietMs = 1000;

export function createProgress(stream: NodeJS.WriteStream): Progress {
  const started = performance.now();
  let shownMs = 0;
  const show = (line: string, isForced: boolean) => {
    const nowMs = performance.now();
    if (!stream.isTTY || nowMs - started < quietMs || (!isForced && nowMs - shownMs < 80)) return;
    shownMs = nowMs;
    stream.write(`\r\u001b[2K\u001b[2m${line}\u001b[0m`);
  };
  return {
    say: (what) => show(`… ${what}`, true),
    step(what, done, total) {
      const filled = Math.round((done / total) * barWidth);
      show(`${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)} ${done}/${total} ${what}`, done === total);
    },
    done() {
      if (stream.isTTY) stream.write('\r\u001b[2K');
    },
  };
}
