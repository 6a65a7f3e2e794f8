"""DynamoDB calls and capacity for each request, on AWS's own engine: moto's capacity is made up, DynamoDB Local's is not.

On-demand tables are billed by these units: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html
"""

from llm_gateway.bootstrap import Stores, assemble, open_client

__all__ = ["Stores", "assemble", "open_client"]
