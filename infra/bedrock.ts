import { modelsOf } from '../lib/search/embedders/choice.ts';
import type { Permission } from './functions.ts';

// A model asked for through one of these is an inference profile, which has the model answer in whichever of its regions is free:
// https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
const profile = /^(?:apac|au|ca|eu|global|jp|us|us-gov)\.(.+)$/;

/** The right to ask those models of Bedrock that the embedders of a stage are, and no others. */
export function bedrockPermissions(embedder: string | undefined): Permission[] {
  const models = modelsOf(embedder, 'bedrock');
  if (models.length === 0) return [];
  const { region } = aws.getRegionOutput();
  const { accountId } = aws.getCallerIdentityOutput();
  return models.flatMap((model): Permission[] => {
    const actions = ['bedrock:InvokeModel'];
    const [, behind] = profile.exec(model) ?? [];
    if (behind === undefined)
      return [{ actions, resources: [$interpolate`arn:aws:bedrock:${region}::foundation-model/${model}`] }];
    const through = $interpolate`arn:aws:bedrock:${region}:${accountId}:inference-profile/${model}`;
    return [
      { actions, resources: [through] },
      {
        // Which regions a profile has is Bedrock's to say; by the profile alone the model may be asked in them.
        actions,
        resources: [`arn:aws:bedrock:*::foundation-model/${behind}`],
        conditions: [{ test: 'StringEquals', variable: 'bedrock:InferenceProfileArn', values: [through] }],
      },
    ];
  });
}
