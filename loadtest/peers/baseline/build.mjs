// Bundles what tsc wrote into one file, so that the server starts without node_modules.
import { readFile } from 'node:fs/promises';
import * as esbuild from 'esbuild';

// Nest loads its optional packages with createRequire(import.meta.url)('pkg'), which esbuild cannot see.
const nestOptionalPackages = {
  name: 'nest-optional-packages',
  setup(build) {
    build.onLoad({ filter: /@nestjs[\\/]microservices[\\/]server[\\/]server-grpc\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const contents = source
        .replace("createRequire(import.meta.url)('@grpc/grpc-js')", "require('@grpc/grpc-js')")
        .replace('createRequire(import.meta.url)(protoLoader)', "require('@grpc/proto-loader')");
      if (contents.includes('createRequire(import.meta.url)')) throw new Error('server-grpc.js has changed');
      return { contents, loader: 'js' };
    });
  },
};

await esbuild.build({
  entryPoints: ['build/main.js'],
  outfile: 'dist/server.mjs',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  // Names are kept: Nest and the AWS SDK use class names.
  minifyWhitespace: true,
  minifySyntax: true,
  banner: { js: "import { createRequire as __cr } from 'node:module'; const require = __cr(import.meta.url);" },
  plugins: [nestOptionalPackages],
  logLevel: 'warning',
  // Nest's optional peers, which this service does not use.
  external: [
    '@nestjs/websockets', '@nestjs/websockets/*', '@nestjs/platform-express', '@nestjs/platform-express/*',
    'class-validator', 'class-transformer', 'class-transformer/*',
    'amqplib', 'amqp-connection-manager', 'kafkajs', 'mqtt', 'ioredis', '@nats-io/*', 'nats', 'cache-manager',
    '@fastify/*', 'long/umd/index.js',
  ],
});
