/// <reference path="./.sst/platform/config.d.ts" />

export default $config({
  app({ stage }) {
    const isProduction = stage === 'production';
    return {
      name: 'lamina',
      home: 'aws',
      // What holds data outlives the stage of production, and `sst remove` refuses to take that stage away.
      removal: isProduction ? 'retain' : 'remove',
      protect: isProduction,
      providers: { aws: { version: '7.20.0' }, neon: '0.13.0', '@upstash/pulumi': '0.5.0' },
    };
  },
  async run() {
    const { deployLamina } = await import('./infra/lamina.ts');
    return deployLamina();
  },
});
